import { useEffect, useRef, useState } from 'preact/hooks';
import { useClient } from '../../service/service.js';
import { readTab, writeTab } from '../../store.js';
import {
  type AnswerState,
  type ChatSettings,
  type Conversation,
  conversationOf,
  messagesFor,
  numbersOf,
  type Side,
  textOf,
  withAnswer,
  withTurn,
} from './conversation.js';

export interface Chat {
  conversation: Conversation;
  changeSettings: (settings: ChatSettings) => void;
  /** Sends a text to each side's model. */
  send: (text: string, models: ReadonlyMap<Side, string>) => void;
  /** Asks one side for its answer to a turn again. Later turns stay. */
  retry: (turnId: number, side: Side, model: string) => void;
  isBusy: boolean;
  stop: () => void;
  /** Forgets the conversation. */
  clear: () => void;
  /** Why the answer of a side to a turn failed. */
  errorOf: (turnId: number, side: Side) => unknown;
}

/** Talks to several models at once. Each answers by itself, and the answers come in chunks. */
export function useChat(): Chat {
  const client = useClient();
  const [conversation, setConversation] = useStoredConversation();
  const running = useRef(new Set<AbortController>());
  const [busy, setBusy] = useState(0);
  const [errors, setErrors] = useState<ReadonlyMap<string, unknown>>(new Map());
  const stop = () => {
    for (const one of running.current) one.abort();
  };
  useEffect(() => stop, []);

  const answer = async (asked: Conversation, turnId: number, side: Side, model: string) => {
    const controller = new AbortController();
    const { signal } = controller;
    running.current.add(controller);
    setBusy(running.current.size);
    setErrors((current) => new Map([...current].filter(([name]) => name !== nameOf(turnId, side))));
    let text = '';
    const show = (state: AnswerState) =>
      setConversation((current) => withAnswer(current, turnId, side, { model, text, state }));
    show('streaming');
    try {
      let state: AnswerState = 'done';
      const request = { model, messages: messagesFor(asked, side, turnId), ...numbersOf(asked.settings).request };
      for await (const { choices } of client.streamChat(request, { signal })) {
        text += choices[0]?.delta.content ?? '';
        if (choices[0]?.finish_reason === 'length') state = 'cut';
        show('streaming');
      }
      show(state);
    } catch (error) {
      show(signal.aborted ? 'stopped' : 'failed');
      if (!signal.aborted) setErrors((current) => new Map(current).set(nameOf(turnId, side), error));
    } finally {
      running.current.delete(controller);
      setBusy(running.current.size);
    }
  };

  return {
    conversation,
    changeSettings: (settings) => setConversation((current) => ({ ...current, settings })),
    isBusy: busy > 0,
    stop,
    send(text, models) {
      const { conversation: asked, turn } = withTurn(conversation, text);
      setConversation(asked);
      for (const [side, model] of models) void answer(asked, turn.id, side, model);
    },
    retry: (turnId, side, model) => void answer(conversation, turnId, side, model),
    clear() {
      stop();
      setErrors(new Map());
      setConversation((current) => ({ ...current, turns: [] }));
    },
    errorOf: (turnId, side) => errors.get(nameOf(turnId, side)),
  };
}

const nameOf = (turnId: number, side: Side) => `${turnId} ${side}`;

const STORAGE_KEY = 'lorasmith-chat';
/** Answers come in many chunks. */
const WRITE_DELAY_MS = 300;

/** The conversation of this tab. It survives a reload, and is gone with the tab. */
function useStoredConversation() {
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
