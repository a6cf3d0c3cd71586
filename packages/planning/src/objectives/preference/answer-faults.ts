import {
  type ChatMessage,
  conversationFaults,
  type Tool,
  textOfMessage,
  textsOfConversation,
  toolCallsOf,
  unsupportedParts,
} from '@lorasmith/contracts';
import { unicodeFaults } from '../next-token/row-formats.js';
import type { RowFault } from '../objective.js';

/** A prompt with an answer, as messages. */
export interface AnsweredPrompt {
  prompt: readonly ChatMessage[];
  answer: readonly ChatMessage[];
  tools: readonly Tool[] | null;
  parallelToolCalls: boolean | undefined;
}

/** Parts of messages that are not text, named as such. @param lists by their path within the row */
export function partFaults(lists: readonly [path: string, messages: unknown][]): RowFault[] {
  return lists.flatMap(([at, messages]) =>
    unsupportedParts({ messages }).map(({ message, param }) => ({
      code: 'invalid_dataset' as const,
      message,
      param: param.replace(/^messages/, at),
    })),
  );
}

/** The fault of a prompt that is answered already. */
export function promptFaults(prompt: readonly ChatMessage[], param: string): RowFault[] {
  if (prompt.at(-1)?.role !== 'assistant') return [];
  const message = 'The last message before the answers is of the assistant. End the prompt with another role.';
  return [{ code: 'invalid_dataset', message, param }];
}

/**
 * The faults of a conversation that ends with an answer.
 * @param at the field of the row for a path within the conversation
 */
export function answerFaults(
  { prompt, answer, tools, parallelToolCalls }: AnsweredPrompt,
  param: string,
  at: (path: string) => string,
): RowFault[] {
  const messages = [...prompt, ...answer];
  const wrong = conversationFaults(messages, { tools, parallelToolCalls });
  if (wrong.length > 0) {
    return wrong.map(({ message, param }) => ({ code: 'invalid_dataset', message, param: at(param) }));
  }
  const faults = unicodeFaults(textsOfConversation(messages, tools).map(([path, text]) => [at(path), text]));
  const turns = answer.filter(({ role }) => role === 'assistant');
  const isEmpty = turns.every((turn) => textOfMessage(turn) === '' && toolCallsOf(turn).length === 0);
  return isEmpty ? [...faults, emptyAnswer(param)] : faults;
}

export function emptyAnswer(param: string): RowFault {
  return { code: 'no_trained_tokens', message: 'The answer is empty, so there is nothing to train.', param };
}
