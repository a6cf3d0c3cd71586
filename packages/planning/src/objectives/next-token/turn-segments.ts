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
 * The text is that of the whole conversation. The stretches come from rendering beginnings of it, so they are what
 * generation does, whatever the template. Where a beginning is written differently once other messages follow, as by
 * templates that leave out the reasoning of earlier turns, the turn is found by its neighbours: see {@link follow}.
 *
 * @param messages - At least one has the role `assistant`.
 * @param marks - Texts that no border may cut, such as special tokens.
 * @throws ProductError `chat_template_failed`, also when the place of a turn is not known.
 */
export function turnSegments(
  template: ChatTemplate,
  messages: readonly Message[],
  marks: readonly string[] = [],
): Segment[] {
  const whole = rendering(template, messages, false);
  const segments: Segment[] = [];
  let position = 0;
  for (const [index, { role }] of messages.entries()) {
    if (role !== 'assistant') continue;
    const start = startOfTurn(template, whole, index, marks);
    const end = start === null ? null : endOfTurn(template, whole, index, marks);
    if (start === null || end === null || start < position || end < start) throw notFound(template, messages, index);
    segments.push({ text: whole.text.slice(position, start), trained: false });
    segments.push({ text: whole.text.slice(start, end), trained: true });
    position = end;
  }
  segments.push({ text: whole.text.slice(position), trained: false });
  return segments.filter(({ text }) => text !== '');
}

/** A conversation, or its beginning, as the template writes it. */
interface Rendering {
  text: string;
  /** The text with other words as the content of one message. */
  withContent(index: number, content: string): string;
  messages: readonly Message[];
}

function rendering(template: ChatTemplate, messages: readonly Message[], addGenerationPrompt: boolean): Rendering {
  return {
    messages,
    text: template.render(messages, { addGenerationPrompt }),
    withContent: (index, content) =>
      template.render(messages.with(index, { ...messages[index]!, content }), { addGenerationPrompt }),
  };
}

/** Where what the model is asked with ends; null when that is not known. */
function startOfTurn(template: ChatTemplate, whole: Rendering, index: number, marks: readonly string[]): number | null {
  const before = whole.messages.slice(0, index);
  const asked = rendering(template, before, true);
  if (whole.text.startsWith(asked.text)) return asked.text.length;
  const followed = follow(whole, asked, index - 1);
  if (followed === null) return null;
  // What agrees by chance with the answer itself is no part of the question.
  const answerAt = commonPrefix(whole.text, whole.withContent(index, PROBE));
  const length = Math.min(followed.length, answerAt - followed.inWhole);
  // Some templates ask with more than they write of an answer, for instance with the beginning of its reasoning. What
  // they write of the messages before has to be the same.
  if (length < asked.text.length - followed.inBeginning) {
    const unasked = template.render(before, { addGenerationPrompt: false });
    if (!asked.text.startsWith(unasked) || followed.inBeginning + length < unasked.length) return null;
  }
  return outsideMarks(whole.text, followed.inWhole + length, marks);
}

/** Where the turn ends, with its mark where the template writes one after the last turn too. */
function endOfTurn(template: ChatTemplate, whole: Rendering, index: number, marks: readonly string[]): number | null {
  if (index === whole.messages.length - 1) return whole.text.length;
  const answered = rendering(template, whole.messages.slice(0, index + 1), false);
  if (whole.text.startsWith(answered.text)) return answered.text.length;
  const followed = follow(whole, answered, index);
  return followed === null ? null : outsideMarks(whole.text, followed.inWhole + followed.length, marks);
}

/** A character that templates write as it is, and that nothing which they add to a message begins with. */
const PROBE = '0';

/** From a place in a message on: how far the conversation and its beginning are the same. Null without such a place. */
function follow(whole: Rendering, beginning: Rendering, index: number) {
  for (const end of index < 0 ? [0] : endsOf(whole.messages[index]!.content)) {
    const inWhole = placeOf(whole, index, end);
    const inBeginning = placeOf(beginning, index, end);
    if (inWhole === null || inBeginning === null) continue;
    const length = commonPrefix(whole.text.slice(inWhole), beginning.text.slice(inBeginning));
    return { inWhole, inBeginning, length };
  }
  return null;
}

/** Before and after the white space that some templates take away. */
function endsOf(content: string): number[] {
  return [...new Set([content.trimEnd().length, content.length])];
}

/** Where a place in a message is in the text, found by writing one more character there. -1: where the text begins. */
function placeOf({ messages, text, withContent }: Rendering, index: number, end: number): number | null {
  if (index < 0) return 0;
  const { content } = messages[index]!;
  const probed = withContent(index, content.slice(0, end) + PROBE + content.slice(end));
  const place = commonPrefix(text, probed);
  return probed === text.slice(0, place) + PROBE + text.slice(place) ? place : null;
}

function commonPrefix(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

/** The place, or the beginning of the mark that it lies within. */
function outsideMarks(text: string, place: number, marks: readonly string[]): number {
  for (const mark of marks) {
    for (let start = Math.max(0, place - mark.length + 1); start < place; start++) {
      if (text.startsWith(mark, start)) return start;
    }
  }
  return place;
}

function notFound(template: ChatTemplate, messages: readonly Message[], index: number): ProductError {
  return new ProductError(
    'chat_template_failed',
    'The chat template does not write this assistant turn as it asks for it, so its place in the text is not known. ' +
      adviceOn(template, messages, index),
    { param: `messages.${index}` },
  );
}

function adviceOn(template: ChatTemplate, messages: readonly Message[], index: number): string {
  if (index === 0) return 'Put a system or user message before it.';
  if (index < messages.length - 1 && isFound(template, messages.slice(0, index + 1))) {
    return 'It does once nothing follows: end the row with this turn.';
  }
  return 'Change the chat_template.jinja of the base model, or upload rows of "text", of which every token is trained.';
}

function isFound(template: ChatTemplate, messages: readonly Message[]): boolean {
  try {
    turnSegments(template, messages);
    return true;
  } catch {
    return false;
  }
}
