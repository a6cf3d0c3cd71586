import { ProductError } from '@lorasmith/contracts';
import type { TemplateMessage } from '@lorasmith/model-folder';

/**
 * Whether a rendered conversation has content and reasoning of a message and the name of who speaks, apart from white space.
 * @param turn - The text of its turn, in which its reasoning is looked for: models repeat what they think.
 */
export function rendersWhole(text: string, message: TemplateMessage, turn = text): boolean {
  const { role, content, name, reasoning_content: reasoning = '' } = message;
  // What a tool answered is found by its place; few templates repeat its name.
  return (
    hasWords(text, content) &&
    hasWords(turn, reasoning) &&
    (name === undefined || role === 'tool' || text.includes(name))
  );
}

/**
 * A turn whose calls are missing teaches the model not to call. Some templates write calls only of messages without content, or only one.
 * @param text of this turn
 * @throws ProductError `chat_template_failed`
 */
export function refuseMissingCalls({ tool_calls: calls }: TemplateMessage, text: string, index: number): void {
  for (const [number, { function: called }] of (calls ?? []).entries()) {
    const missing = [called.name, ...stringsOf(called.arguments)].find((part) => !hasText(text, part));
    if (missing === undefined) continue;
    const message =
      `The chat template of the base model does not write the whole call: ${JSON.stringify(missing.slice(0, 64))} is missing. ` +
      'Some templates write only one call of a message, or none beside a content.';
    throw new ProductError('chat_template_failed', message, { param: `messages.${index}.tool_calls.${number}` });
  }
}

/**
 * Refuses a template that leaves out a tool's answer: the model learns to make it up.
 * @param text of the whole conversation
 * @throws ProductError `chat_template_failed`
 */
export function refuseMissingAnswer({ role, content }: TemplateMessage, text: string, index: number): void {
  if (role !== 'tool' || hasText(text, content)) return;
  const message = 'The chat template of the base model does not write what the tool answered in this message.';
  throw new ProductError('chat_template_failed', message, { param: `messages.${index}` });
}

/** Whether it is there, apart from white space. */
function hasWords(text: string, content: string): boolean {
  const words = (all: string) => all.replace(/\s+/g, '');
  return text.includes(content) || words(text).includes(words(content));
}

/** Whether every word of it is there: templates quote texts in ways of their own. */
function hasText(text: string, part: string): boolean {
  return text.includes(part) || (part.match(/[\p{L}\p{N}]+/gu) ?? []).every((word) => text.includes(word));
}

function stringsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  const keys = Array.isArray(value) ? [] : Object.keys(value);
  return [...keys, ...Object.values(value).flatMap(stringsOf)];
}
