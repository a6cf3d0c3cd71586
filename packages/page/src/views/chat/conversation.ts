import type { ChatMessage } from '@lorasmith/contracts';

/**
 * `adapter`: the chosen model, which may be a base model. `base`: the base model of a chosen adapter. `second`: another adapter of the same
 * base model.
 */
export const SIDES = ['base', 'adapter', 'second'] as const;
export type Side = (typeof SIDES)[number];

/** `failed` and `stopped` answers keep what has come. */
export type AnswerState = 'streaming' | 'done' | 'cut' | 'stopped' | 'failed';

export interface Answer {
  /** The model that was asked: another one may be chosen later. */
  model: string;
  text: string;
  state: AnswerState;
}

/** A message of the user, and the answer of each side. */
export interface Turn {
  id: number;
  user: string;
  answers: Partial<Record<Side, Answer>>;
}

export interface ChatSettings {
  system: string;
  /** The settings as the user wrote them; empty: the service's default. */
  temperature: string;
  topP: string;
  maxTokens: string;
  seed: string;
}

export interface Conversation {
  turns: readonly Turn[];
  settings: ChatSettings;
}

export const EMPTY_CONVERSATION: Conversation = {
  turns: [],
  settings: { system: '', temperature: '0', topP: '', maxTokens: '256', seed: '' },
};

/** The storage of a tab is small. */
const MAX_KEPT_TURNS = 100;

/** The conversation of one side up to a turn: each side has said something else. */
export function messagesFor({ turns, settings }: Conversation, side: Side, lastTurn: number): ChatMessage[] {
  const messages: ChatMessage[] = settings.system === '' ? [] : [{ role: 'system', content: settings.system }];
  for (const { id, user, answers } of turns) {
    messages.push({ role: 'user', content: user });
    if (id === lastTurn) break;
    messages.push({ role: 'assistant', content: answers[side]?.text ?? '' });
  }
  return messages;
}

/** A conversation with another answer. Unchanged if the turn is gone. */
export function withAnswer(conversation: Conversation, turnId: number, side: Side, answer: Answer): Conversation {
  return {
    ...conversation,
    turns: conversation.turns.map((turn) =>
      turn.id === turnId ? { ...turn, answers: { ...turn.answers, [side]: answer } } : turn,
    ),
  };
}

export function withTurn(conversation: Conversation, user: string): { conversation: Conversation; turn: Turn } {
  const turn: Turn = { id: (conversation.turns.at(-1)?.id ?? 0) + 1, user, answers: {} };
  return { conversation: { ...conversation, turns: [...conversation.turns, turn] }, turn };
}

/** The numbers of the settings. `faults` names those that are not allowed. */
export function numbersOf(settings: ChatSettings): {
  request: { temperature?: number; top_p?: number; max_tokens?: number; seed?: number };
  faults: Partial<Record<keyof ChatSettings, string>>;
} {
  const request: Record<string, number> = {};
  const faults: Partial<Record<keyof ChatSettings, string>> = {};
  const read = (name: keyof ChatSettings, field: string, isAllowed: (value: number) => boolean, fault: string) => {
    const text = settings[name].trim();
    if (text === '') return;
    const value = Number(text);
    if (isAllowed(value)) request[field] = value;
    else faults[name] = fault;
  };
  read('temperature', 'temperature', (value) => value >= 0 && value <= 2, 'From 0 to 2.');
  read('topP', 'top_p', (value) => value > 0 && value <= 1, 'Above 0, up to 1.');
  read('maxTokens', 'max_tokens', (value) => Number.isInteger(value) && value >= 1, 'A whole number from 1 on.');
  read('seed', 'seed', Number.isSafeInteger, 'A whole number.');
  return { request, faults };
}

/** The conversation as text for the storage of the tab. */
export function textOf({ turns, settings }: Conversation): string {
  return JSON.stringify({ turns: turns.slice(-MAX_KEPT_TURNS), settings });
}

/** A stored conversation; an answer that was being streamed has stopped. Empty for anything else. */
export function conversationOf(text: string | null): Conversation {
  if (text === null) return EMPTY_CONVERSATION;
  try {
    const stored: unknown = JSON.parse(text);
    if (!isObject(stored) || !Array.isArray(stored.turns) || !stored.turns.every(isTurn)) return EMPTY_CONVERSATION;
    const settings = { ...EMPTY_CONVERSATION.settings };
    for (const name of Object.keys(settings) as (keyof ChatSettings)[]) {
      const value = isObject(stored.settings) ? stored.settings[name] : undefined;
      if (typeof value === 'string') settings[name] = value;
    }
    return { turns: stored.turns.map(stopped), settings };
  } catch {
    return EMPTY_CONVERSATION;
  }
}

function stopped(turn: Turn): Turn {
  const answers = Object.entries(turn.answers).map(([side, answer]) => [
    side,
    answer.state === 'streaming' ? { ...answer, state: 'stopped' } : answer,
  ]);
  return { ...turn, answers: Object.fromEntries(answers) };
}

function isTurn(value: unknown): value is Turn {
  if (!isObject(value) || !Number.isInteger(value.id) || typeof value.user !== 'string') return false;
  return (
    isObject(value.answers) &&
    Object.values(value.answers).every(
      (answer) => isObject(answer) && [answer.model, answer.text, answer.state].every((one) => typeof one === 'string'),
    )
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The question of a row of a dataset, and its answer. */
export interface RowQuestion {
  system: string;
  question: string;
  answer: string;
}

/** The question of a row as it was uploaded; null if it has none, or is more than one question. */
export function questionOf(line: string): RowQuestion | null {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch {
    // Long rows are cut.
    return null;
  }
  if (!isObject(row)) return null;
  if (typeof row.prompt === 'string' && typeof row.completion === 'string') {
    return { system: '', question: row.prompt.trim(), answer: row.completion.trim() };
  }
  const messages = Array.isArray(row.messages) ? row.messages : joined(row.prompt, row.completion);
  const turns = messages.filter(isMessage);
  if (turns.length !== messages.length) return null;
  const [system, user, assistant, ...others] =
    turns[0]?.role === 'system' ? turns : [{ role: 'system', content: '' }, ...turns];
  if (user?.role !== 'user' || assistant?.role !== 'assistant' || others.length > 0) return null;
  return { system: system!.content, question: user.content, answer: assistant.content };
}

function joined(prompt: unknown, completion: unknown): unknown[] {
  return Array.isArray(prompt) && Array.isArray(completion) ? [...prompt, ...completion] : [];
}

function isMessage(value: unknown): value is { role: string; content: string } {
  return isObject(value) && typeof value.role === 'string' && typeof value.content === 'string';
}
