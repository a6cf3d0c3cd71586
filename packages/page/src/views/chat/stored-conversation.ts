import { useEffect, useRef, useState } from 'preact/hooks';
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
  try {
    return conversationOf(window.sessionStorage.getItem(STORAGE_KEY));
  } catch {
    return conversationOf(null);
  }
}

/** Without storage, or when it is full, the conversation lives until the next reload. */
function store(conversation: Conversation): void {
  try {
    window.sessionStorage.setItem(STORAGE_KEY, textOf(conversation));
  } catch {}
}
