import { type Message, ProductError } from '@lorasmith/contracts';
import type { ChatTemplate } from '@lorasmith/model-folder';

/** A stretch of a row's text that has a loss, or has none. */
export interface Segment {
  text: string;
  trained: boolean;
}

/**
 * Writes a conversation by the model's chat template, in alternating stretches: what an assistant turn adds to the text
 * that the model sees when it is asked for that turn is trained, its end-of-turn mark included; the rest is not.
 *
 * The stretches come from rendering prefixes of the conversation, so they are what generation does, whatever the template.
 *
 * @param messages - At least one has the role `assistant`.
 * @throws ProductError `chat_template_failed`, also when the template writes a turn differently once other messages
 * follow: then there is no place in the text where the turn begins or ends.
 */
export function turnSegments(template: ChatTemplate, messages: readonly Message[]): Segment[] {
  const whole = template.render(messages, { addGenerationPrompt: false });
  const segments: Segment[] = [];
  let position = 0;
  for (const [index, { role }] of messages.entries()) {
    if (role !== 'assistant') continue;
    const asked = template.render(messages.slice(0, index), { addGenerationPrompt: true });
    const isLast = index === messages.length - 1;
    const answered = isLast ? whole : template.render(messages.slice(0, index + 1), { addGenerationPrompt: false });
    const inOrder = position <= asked.length && asked.length <= answered.length;
    if (!inOrder || !whole.startsWith(answered) || !answered.startsWith(asked)) throw notAPrefix(index);
    segments.push({ text: whole.slice(position, asked.length), trained: false });
    segments.push({ text: whole.slice(asked.length, answered.length), trained: true });
    position = answered.length;
  }
  segments.push({ text: whole.slice(position), trained: false });
  return segments.filter(({ text }) => text !== '');
}

function notAPrefix(index: number): ProductError {
  const advice =
    index === 0 ? 'Put a system or user message before it.' : 'Make each answer the last message of a row of its own.';
  return new ProductError(
    'chat_template_failed',
    `The chat template does not write this assistant turn as it asks for it, so its place in the text is not known. ${advice}`,
    { param: `messages.${index}` },
  );
}
