import type { ChatMessage, PairRow, Tool } from '@lorasmith/contracts';
import type { RowFault } from '../objective.js';

/** The fields of a row that its parts come from, for faults. */
interface PartNames {
  prompt: string;
  chosen: string;
  rejected: string;
}

/** A prompt and two answers as text. */
export interface TextPair {
  kind: 'text';
  prompt: string;
  chosen: string;
  rejected: string;
  /** Whether the prompt is what both answers begin with: then it is written as it is, in no chat template. */
  isImplicit: boolean;
  names: PartNames;
}

/** A prompt and two answers as messages. */
export interface Conversations {
  kind: 'messages';
  prompt: readonly ChatMessage[];
  chosen: readonly ChatMessage[];
  rejected: readonly ChatMessage[];
  /** How many messages of each answer's field belong to the prompt: those that both begin with. */
  shared: number;
  tools: readonly Tool[] | null;
  parallelToolCalls: boolean | undefined;
  names: PartNames;
}

/**
 * A row of either format. Without `prompt`, it is what both answers begin with, in whole messages or in characters: as in TRL, a space
 * before the first difference belongs to the answers.
 */
export function pairOfRow(row: PairRow): TextPair | Conversations | { fault: RowFault } {
  if ('input' in row) {
    const { messages, tools = null, parallel_tool_calls: parallelToolCalls } = row.input;
    const names = { prompt: 'input.messages', chosen: 'preferred_output', rejected: 'non_preferred_output' };
    const answers = { chosen: row.preferred_output, rejected: row.non_preferred_output };
    return { kind: 'messages', prompt: messages, ...answers, shared: 0, tools, parallelToolCalls, names };
  }
  const { prompt, chosen, rejected, tools = null, parallel_tool_calls: parallelToolCalls } = row;
  const names = { prompt: prompt === undefined ? 'chosen' : 'prompt', chosen: 'chosen', rejected: 'rejected' };
  if (typeof chosen === 'string' && typeof rejected === 'string') {
    if (tools !== null) return mixed('tools', 'Tools belong to rows of messages, and the answers are text.');
    if (typeof prompt === 'string') return { kind: 'text', prompt, chosen, rejected, isImplicit: false, names };
    if (prompt === undefined) return { kind: 'text', ...splitTexts(chosen, rejected), isImplicit: true, names };
  } else if (typeof chosen !== 'string' && typeof rejected !== 'string') {
    const given = { kind: 'messages' as const, tools, parallelToolCalls, names };
    if (typeof prompt === 'object') return { ...given, prompt, chosen, rejected, shared: 0 };
    if (prompt === undefined) return { ...given, ...splitTurns(chosen, rejected) };
  }
  const message = 'prompt, chosen and rejected are either all text or all lists of messages.';
  return mixed('rejected', message);
}

function mixed(param: string, message: string): { fault: RowFault } {
  return { fault: { code: 'invalid_dataset', message, param } };
}

function splitTexts(chosen: string, rejected: string) {
  let length = 0;
  while (length < chosen.length && length < rejected.length && chosen[length] === rejected[length]) length++;
  const isDifferent = length < chosen.length && length < rejected.length;
  if (isDifferent && (chosen[length - 1] === ' ' || isHighSurrogate(chosen, length - 1))) length--;
  return { prompt: chosen.slice(0, length), chosen: chosen.slice(length), rejected: rejected.slice(length) };
}

/** Two characters may differ in the second half of their codes only. */
function isHighSurrogate(text: string, index: number): boolean {
  const code = text.charCodeAt(index);
  return code >= 0xd800 && code < 0xdc00;
}

function splitTurns(chosen: readonly ChatMessage[], rejected: readonly ChatMessage[]) {
  const isSame = (index: number) => JSON.stringify(chosen[index]) === JSON.stringify(rejected[index]);
  let shared = 0;
  while (shared < chosen.length && shared < rejected.length && isSame(shared)) shared++;
  return {
    prompt: chosen.slice(0, shared),
    chosen: chosen.slice(shared),
    rejected: rejected.slice(shared),
    shared,
  };
}

/** The field of a row for a path within the conversation of its prompt and one answer. */
export function paramWithin(
  { prompt, shared, names }: Pick<Conversations, 'prompt' | 'shared' | 'names'>,
  side: 'chosen' | 'rejected',
  param: string,
): string {
  const found = /^messages\.(\d+)(.*)$/.exec(param);
  if (found === null) return param.startsWith('tools') && names.prompt === 'input.messages' ? `input.${param}` : param;
  const index = Number(found[1]);
  if (index < prompt.length) return `${names.prompt}.${index}${found[2]}`;
  return `${names[side]}.${index - prompt.length + shared}${found[2]}`;
}
