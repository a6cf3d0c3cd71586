import { ProductError } from '@lorasmith/contracts';
import type { ChatTemplate, Conversation, TemplateMessage } from '@lorasmith/model-folder';

/** A part of a row's text that is trained, or is not. */
export interface Segment {
  text: string;
  trained: boolean;
  /** Index of the assistant message whose turn this is. */
  turn?: number;
}

/**
 * Renders a conversation with the model's chat template and cuts it into segments. Trained is what an assistant turn adds
 * to the prompt for that turn, its end-of-turn mark included. The rest is not trained.
 *
 * The text is that of the whole conversation. The segments come from rendering beginnings of it, so they are what the model
 * sees in generation, with any template. A template may render a beginning differently once other messages follow, for
 * instance without the reasoning of earlier turns. The turn is then found by its neighbours: see {@link follow}.
 *
 * @param conversation - At least one message has the role `assistant`.
 * @param marks - Texts that no segment boundary may cut, such as special tokens.
 * @throws ProductError `chat_template_failed`, also when a turn cannot be located.
 */
export function turnSegments(
  template: ChatTemplate,
  conversation: Conversation,
  marks: readonly string[] = [],
): Segment[] {
  const { messages, tools } = conversation;
  const render: Render = (some, addGenerationPrompt) => template.render(some, { addGenerationPrompt, tools });
  const whole = rendering(render, messages, false);
  const segments: Segment[] = [];
  let position = 0;
  for (const [index, { role }] of messages.entries()) {
    if (role !== 'assistant') continue;
    const start = startOfTurn(render, whole, index, marks);
    const end = start === null ? null : endOfTurn(render, whole, index, marks);
    if (start === null || end === null || start < position || end < start)
      throw notFound(template, conversation, index);
    segments.push({ text: whole.text.slice(position, start), trained: false });
    segments.push({ text: whole.text.slice(start, end), trained: true, turn: index });
    position = end;
  }
  segments.push({ text: whole.text.slice(position), trained: false });
  return segments.filter(({ text }) => text !== '');
}

type Render = (messages: readonly TemplateMessage[], addGenerationPrompt: boolean) => string;

/** A conversation, or its beginning, as the template renders it. */
interface Rendering {
  text: string;
  /** The text with another message in the place of one. */
  withMessage(index: number, message: TemplateMessage): string;
  messages: readonly TemplateMessage[];
}

function rendering(render: Render, messages: readonly TemplateMessage[], addGenerationPrompt: boolean): Rendering {
  return {
    messages,
    text: render(messages, addGenerationPrompt),
    withMessage: (index, message) => render(messages.with(index, message), addGenerationPrompt),
  };
}

/** Where the prompt for a turn ends; null when that is not known. */
function startOfTurn(render: Render, whole: Rendering, index: number, marks: readonly string[]): number | null {
  const before = whole.messages.slice(0, index);
  const asked = rendering(render, before, true);
  if (whole.text.startsWith(asked.text)) return asked.text.length;
  const followed = follow(whole, asked, index - 1);
  if (followed === null) return null;
  // The prompt ends before the answer, also where both happen to begin with the same text.
  const answer = { ...whole.messages[index]!, content: PROBE };
  const answerAt = commonPrefix(whole.text, whole.withMessage(index, answer));
  const length = Math.min(followed.length, answerAt - followed.inWhole);
  // Some templates end the prompt with text that they do not render for an answer, for instance the beginning of its
  // reasoning. What they render for the messages before must be the same.
  if (length < asked.text.length - followed.inBeginning) {
    const unasked = render(before, false);
    if (!asked.text.startsWith(unasked) || followed.inBeginning + length < unasked.length) return null;
  }
  return outsideMarks(whole.text, followed.inWhole + length, marks);
}

/** Where the turn ends, its mark included if the template renders one after the last turn too. */
function endOfTurn(render: Render, whole: Rendering, index: number, marks: readonly string[]): number | null {
  if (index === whole.messages.length - 1) return whole.text.length;
  const answered = rendering(render, whole.messages.slice(0, index + 1), false);
  if (whole.text.startsWith(answered.text)) return answered.text.length;
  const followed = follow(whole, answered, index);
  return followed === null ? null : outsideMarks(whole.text, followed.inWhole + followed.length, marks);
}

/** A character that templates render unchanged, and that begins nothing they add to a message. */
const PROBE = '0';

/** How far the conversation and its beginning agree from the end of a message on. Null if that end cannot be located. */
function follow(whole: Rendering, beginning: Rendering, index: number) {
  for (const probed of index < 0 ? [null] : probedEnds(whole.messages[index]!)) {
    const inWhole = positionOf(whole, index, probed);
    const inBeginning = positionOf(beginning, index, probed);
    if (inWhole === null || inBeginning === null) continue;
    const length = commonPrefix(whole.text.slice(inWhole), beginning.text.slice(inBeginning));
    return { inWhole, inBeginning, length };
  }
  return null;
}

/**
 * The message with one more character at its end: before and after the white space that some templates trim, or after the name
 * of its last call, which templates print after the content.
 */
function probedEnds(message: TemplateMessage): TemplateMessage[] {
  const { content, tool_calls: calls } = message;
  const last = calls?.at(-1);
  const ofCalls =
    last === undefined
      ? []
      : [{ ...last.function, name: last.function.name + PROBE }].map((called) => ({
          ...message,
          tool_calls: calls!.with(-1, { ...last, function: called }),
        }));
  const ofContent = [...new Set([content.trimEnd().length, content.length])].map((end) => ({
    ...message,
    content: content.slice(0, end) + PROBE + content.slice(end),
  }));
  return [...ofCalls, ...ofContent];
}

/** Where the text differs once a message is replaced by one with one more character. Index -1: the start of the text. */
function positionOf({ text, withMessage }: Rendering, index: number, message: TemplateMessage | null): number | null {
  if (message === null) return 0;
  const probed = withMessage(index, message);
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

function notFound(template: ChatTemplate, conversation: Conversation, index: number): ProductError {
  return new ProductError(
    'chat_template_failed',
    'The chat template renders this assistant turn differently than the prompt for it, so the turn cannot be located. ' +
      adviceOn(template, conversation, index),
    { param: `messages.${index}` },
  );
}

function adviceOn(template: ChatTemplate, { messages, tools }: Conversation, index: number): string {
  if (index === 0) return 'Put a system or user message before it.';
  if (index < messages.length - 1 && isFound(template, { messages: messages.slice(0, index + 1), tools })) {
    return 'The last turn can be located: end the row with this turn.';
  }
  return 'Change the chat_template.jinja of the base model, or upload rows of "text", in which every token is trained.';
}

function isFound(template: ChatTemplate, conversation: Conversation): boolean {
  try {
    turnSegments(template, conversation);
    return true;
  } catch {
    return false;
  }
}
