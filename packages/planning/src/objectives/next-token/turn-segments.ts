import { type Message, ProductError } from '@lorasmith/contracts';
import type { ChatTemplate } from '@lorasmith/model-folder';

/** A part of a row's text that is trained, or is not. */
export interface Segment {
  text: string;
  trained: boolean;
}

/**
 * Renders a conversation with the model's chat template and cuts it into segments. Trained is what an assistant turn adds
 * to the prompt for that turn, its end-of-turn mark included. The rest is not trained.
 *
 * The text is that of the whole conversation. The segments come from rendering beginnings of it, so they are what the model
 * sees in generation, with any template. A template may render a beginning differently once other messages follow, for
 * instance without the reasoning of earlier turns. The turn is then found by its neighbours: see {@link follow}.
 *
 * @param messages - At least one has the role `assistant`.
 * @param marks - Texts that no segment boundary may cut, such as special tokens.
 * @throws ProductError `chat_template_failed`, also when a turn cannot be located.
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

/** A conversation, or its beginning, as the template renders it. */
interface Rendering {
  text: string;
  /** The text with the content of one message replaced. */
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

/** Where the prompt for a turn ends; null when that is not known. */
function startOfTurn(template: ChatTemplate, whole: Rendering, index: number, marks: readonly string[]): number | null {
  const before = whole.messages.slice(0, index);
  const asked = rendering(template, before, true);
  if (whole.text.startsWith(asked.text)) return asked.text.length;
  const followed = follow(whole, asked, index - 1);
  if (followed === null) return null;
  // The prompt ends before the answer, also where both happen to begin with the same text.
  const answerAt = commonPrefix(whole.text, whole.withContent(index, PROBE));
  const length = Math.min(followed.length, answerAt - followed.inWhole);
  // Some templates end the prompt with text that they do not render for an answer, for instance the beginning of its
  // reasoning. What they render for the messages before must be the same.
  if (length < asked.text.length - followed.inBeginning) {
    const unasked = template.render(before, { addGenerationPrompt: false });
    if (!asked.text.startsWith(unasked) || followed.inBeginning + length < unasked.length) return null;
  }
  return outsideMarks(whole.text, followed.inWhole + length, marks);
}

/** Where the turn ends, its mark included if the template renders one after the last turn too. */
function endOfTurn(template: ChatTemplate, whole: Rendering, index: number, marks: readonly string[]): number | null {
  if (index === whole.messages.length - 1) return whole.text.length;
  const answered = rendering(template, whole.messages.slice(0, index + 1), false);
  if (whole.text.startsWith(answered.text)) return answered.text.length;
  const followed = follow(whole, answered, index);
  return followed === null ? null : outsideMarks(whole.text, followed.inWhole + followed.length, marks);
}

/** A character that templates render unchanged, and that begins nothing they add to a message. */
const PROBE = '0';

/** How far the conversation and its beginning agree from the end of a message on. Null if that end cannot be located. */
function follow(whole: Rendering, beginning: Rendering, index: number) {
  for (const end of index < 0 ? [0] : endsOf(whole.messages[index]!.content)) {
    const inWhole = positionOf(whole, index, end);
    const inBeginning = positionOf(beginning, index, end);
    if (inWhole === null || inBeginning === null) continue;
    const length = commonPrefix(whole.text.slice(inWhole), beginning.text.slice(inBeginning));
    return { inWhole, inBeginning, length };
  }
  return null;
}

/** Before and after the white space that some templates trim. */
function endsOf(content: string): number[] {
  return [...new Set([content.trimEnd().length, content.length])];
}

/** Where a position in a message is in the text, found by inserting one more character there. Index -1: the start of the text. */
function positionOf({ messages, text, withContent }: Rendering, index: number, end: number): number | null {
  if (index < 0) return 0;
  const { content } = messages[index]!;
  const probed = withContent(index, content.slice(0, end) + PROBE + content.slice(end));
  const position = commonPrefix(text, probed);
  return probed === text.slice(0, position) + PROBE + text.slice(position) ? position : null;
}

function commonPrefix(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

/** The position, or the start of the mark that it lies within. */
function outsideMarks(text: string, position: number, marks: readonly string[]): number {
  for (const mark of marks) {
    for (let start = Math.max(0, position - mark.length + 1); start < position; start++) {
      if (text.startsWith(mark, start)) return start;
    }
  }
  return position;
}

function notFound(template: ChatTemplate, messages: readonly Message[], index: number): ProductError {
  return new ProductError(
    'chat_template_failed',
    'The chat template renders this assistant turn differently than the prompt for it, so the turn cannot be located. ' +
      adviceOn(template, messages, index),
    { param: `messages.${index}` },
  );
}

function adviceOn(template: ChatTemplate, messages: readonly Message[], index: number): string {
  if (index === 0) return 'Put a system or user message before it.';
  if (index < messages.length - 1 && isFound(template, messages.slice(0, index + 1))) {
    return 'The last turn can be located: end the row with this turn.';
  }
  return 'Change the chat_template.jinja of the base model, or upload rows of "text", in which every token is trained.';
}

function isFound(template: ChatTemplate, messages: readonly Message[]): boolean {
  try {
    turnSegments(template, messages);
    return true;
  } catch {
    return false;
  }
}
