import { useEffect, useRef, useState } from 'preact/hooks';
import { readTab, writeTab } from '../../tab-storage.js';
import { type Conversation, conversationOf, textOf } from './conversation.js';

const STORAGE_KEY = 'lorasmith-chat';
/** Answers come in many pieces. */
const WRITE_DELAY_MS = 300;

/** The conversation of this tab. It survives a reload, and is gone with the tab. */
export function useStoredConversation() {
  const [conversation, setConversation] = useState(stored);
  const latest = useRef(conversation);
  latest.current = conversation;
  useEffect(() => {
    const timer = setTimeout(() => store(conversation), WRITE_DELAY_MS);
    return () => clearTimeout(timer);
  }, [conversation]);
  useEffect(() => {
    const storeNow = () => store(latest.current);
    window.addEventListener('pagehide', storeNow);
    return () => {
      window.removeEventListener('pagehide', storeNow);
      storeNow();
    };
  }, []);
  return [conversation, setConversation] as const;
}

function stored(): Conversation {
  return conversationOf(readTab(STORAGE_KEY));
}

function store(conversation: Conversation): void {
  writeTab(STORAGE_KEY, textOf(conversation));
}
