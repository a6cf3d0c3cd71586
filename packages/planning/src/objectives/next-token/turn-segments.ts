import { ProductError } from '@lorasmith/contracts';
import {
  type ChatTemplate,
  stripped,
  type TemplateConversation,
  type TemplateMessage,
  WHITE_SPACE,
} from '@lorasmith/model-folder';

/** A part of a row's text that is trained, or is not. */
export interface Segment {
  text: string;
  trained: boolean;
  /** Index of the assistant message whose turn this is. */
  turn?: number;
}

/**
 * Renders a conversation with the model's chat template and cuts it into segments. Trained is what the template has within
 * `{% generation %}`; of a template without these marks, what an assistant turn adds to the prompt for that turn, its
 * end-of-turn mark included. The rest is not trained.
 *
 * The text is that of the whole conversation. The segments come from rendering beginnings of it, so they are what the model
 * sees in generation, with any template. A template may render a beginning differently once other messages follow, for
 * instance without the reasoning of earlier turns. The turn is then found by its neighbours: see {@link follow}.
 *
 * Some templates refuse an empty conversation or one without a user, or write a default system message only once a message
 * follows. So nothing is asked of the template before the first message of a user: see {@link afterStandIn}.
 *
 * @param conversation - At least one message has the role `assistant`.
 * @param marks - Texts that no segment boundary may cut, such as special tokens.
 * @throws ProductError `chat_template_failed`, also when a turn cannot be located.
 */
export function turnSegments(
  template: ChatTemplate,
  conversation: TemplateConversation,
  marks: readonly string[] = [],
): Segment[] {
  const marked = markedSegments(template, conversation);
  if (marked !== null) return marked;
  const { messages, tools } = conversation;
  const render: Render = (some, addGenerationPrompt) => template.render(some, { addGenerationPrompt, tools });
  const first = messages.findIndex(({ role }) => role === 'assistant' || role === 'user');
  if (messages[first]?.role === 'assistant') return afterStandIn(template, conversation, first, marks);
  const whole = rendering(render, messages, false);
  const segments: Segment[] = [];
  let position = 0;
  for (const [index, { role }] of messages.entries()) {
    if (role !== 'assistant') continue;
    const start = startOfTurn(render, whole, index, marks);
    const isLast = index === messages.length - 1;
    const endOf = isLast && asksAlways(template) ? endBeforePrompt : endOfTurn;
    const end = start === null ? null : endOf(render, whole, index, marks);
    if (start === null || end === null || start < position || end < start)
      throw notFound(template, conversation, index);
    segments.push({ text: whole.text.slice(position, start), trained: false });
    segments.push({ text: whole.text.slice(start, end), trained: true, turn: index });
    position = end;
  }
  segments.push({ text: whole.text.slice(position), trained: false });
  return segments.filter(({ text }) => text !== '');
}

/** The segments that the template marks itself; null if it has no marks, or writes another text without them. */
function markedSegments(template: ChatTemplate, { messages, tools }: TemplateConversation): Segment[] | null {
  const options = { addGenerationPrompt: false, tools };
  const parts = template.renderMarked(messages, options);
  if (parts === null || !parts.some(({ text, isGenerated }) => isGenerated && text !== '')) return null;
  if (parts.map(({ text }) => text).join('') !== template.render(messages, options)) return null;
  const turns = messages.flatMap(({ role }, index) => (role === 'assistant' ? [index] : []));
  // Some templates write two messages as one turn, or one message as two.
  const hasTurns = parts.filter(({ isGenerated }) => isGenerated).length === turns.length;
  const segments: Segment[] = [];
  for (const { text, isGenerated } of parts) {
    const turn = isGenerated && hasTurns ? turns.shift() : undefined;
    if (text !== '') segments.push({ text, trained: isGenerated, ...(turn === undefined ? {} : { turn }) });
  }
  return segments;
}

/** A user's message that no template has reason to render in another way than any other. */
const STAND_IN: TemplateMessage = { role: 'user', content: 'Hello' };

/**
 * The segments of a conversation whose first turn is the assistant's: those of the same conversation with a message of a user
 * before that turn. What the template writes from the header of that turn on has to be the same in both.
 *
 * @param index - of the turn
 * @throws ProductError `chat_template_failed`, also when the two are not the same.
 */
function afterStandIn(
  template: ChatTemplate,
  { messages, tools }: TemplateConversation,
  index: number,
  marks: readonly string[],
): Segment[] {
  const text = template.render(messages, { addGenerationPrompt: false, tools });
  const asked = [...messages.slice(0, index), STAND_IN];
  const [prompt, ...trained] = turnSegments(template, { messages: [...asked, ...messages.slice(index)], tools }, marks);
  const unasked = template.render(asked, { addGenerationPrompt: false, tools });
  const header = prompt!.text.startsWith(unasked) ? prompt!.text.slice(unasked.length) : '';
  const same = header + trained.map((segment) => segment.text).join('');
  if (!text.endsWith(same)) throw notFound(template, { messages, tools }, index);
  const before = text.slice(0, text.length - same.length) + header;
  const moved = trained.map((segment) =>
    segment.turn === undefined ? segment : { ...segment, turn: segment.turn - 1 },
  );
  return [{ text: before, trained: false }, ...moved].filter((segment) => segment.text !== '');
}

type Render = (messages: readonly TemplateMessage[], addGenerationPrompt: boolean) => string;

/** A conversation, or its beginning, as the template renders it. */
interface Rendering {
  text: string;
  /** The text with another message in the place of one; null where the template refuses that message. */
  withMessage(index: number, message: TemplateMessage): string | null;
  messages: readonly TemplateMessage[];
}

function rendering(render: Render, messages: readonly TemplateMessage[], addGenerationPrompt: boolean): Rendering {
  return {
    messages,
    text: render(messages, addGenerationPrompt),
    withMessage(index, message) {
      try {
        return render(messages.with(index, message), addGenerationPrompt);
      } catch (error) {
        if (error instanceof ProductError) return null;
        throw error;
      }
    },
  };
}

/** The index at which the prompt for a turn ends; null when that is not known. */
function startOfTurn(render: Render, whole: Rendering, index: number, marks: readonly string[]): number | null {
  const before = whole.messages.slice(0, index);
  const asked = rendering(render, before, true);
  if (whole.text.startsWith(asked.text)) return asked.text.length;
  const followed = follow(whole, asked, index - 1);
  if (followed === null) return null;
  // The prompt ends before the answer, also where both happen to begin with the same text.
  const answerAt = startOfAnswer(whole, index);
  if (answerAt === null) return null;
  const length = Math.min(followed.length, answerAt - followed.inWhole);
  // Some templates end the prompt with text that they do not render for an answer, for instance the beginning of its
  // reasoning. What they render for the messages before must be the same.
  if (length < asked.text.length - followed.inBeginning) {
    const unasked = render(before, false);
    if (!asked.text.startsWith(unasked) || followed.inBeginning + length < unasked.length) return null;
  }
  return outsideMarks(whole.text, followed.inWhole + length, marks);
}

/** The index at which the text of an answer begins, its reasoning included. */
function startOfAnswer(whole: Rendering, index: number): number | null {
  const { reasoning_content: reasoning, ...turn } = whole.messages[index]!;
  const thought = reasoning === undefined ? {} : { reasoning_content: PROBE };
  // Some templates take no content beside reasoning and calls.
  const other =
    whole.withMessage(index, { ...turn, ...thought, content: PROBE }) ??
    whole.withMessage(index, { ...turn, ...thought });
  return other === null ? null : commonPrefix(whole.text, other);
}

/** The end of a turn: after its mark, if the template renders one after the last turn too, be it another one. */
function endOfTurn(render: Render, whole: Rendering, index: number, marks: readonly string[]): number | null {
  if (index === whole.messages.length - 1) return whole.text.length;
  const answered = rendering(render, whole.messages.slice(0, index + 1), false);
  if (whole.text.startsWith(answered.text)) return answered.text.length;
  const followed = follow(whole, answered, index);
  if (followed === null) return null;
  const end = outsideMarks(whole.text, followed.inWhole + followed.length, marks);
  const written = whole.text.slice(followed.inWhole, end);
  const endsOtherwise = markAt(answered.text, followed.inBeginning + written.length, marks) !== '';
  if (!endsOtherwise || marks.some((mark) => written.includes(mark))) return end;
  return end + markAt(whole.text, end, marks).length;
}

/** A character that templates render unchanged, and that begins nothing they add to a message. */
const PROBE = '0';

const alwaysAsking = new WeakMap<ChatTemplate, boolean>();

/** True if the template writes the prompt for a turn behind every conversation, be it asked for one or not (Nemotron-Mini). */
function asksAlways(template: ChatTemplate): boolean {
  const known = alwaysAsking.get(template);
  if (known !== undefined) return known;
  const textOf = (messages: readonly TemplateMessage[], addGenerationPrompt: boolean) =>
    template.render(messages, { addGenerationPrompt });
  let asks: boolean;
  try {
    const question = textOf([STAND_IN], false);
    const answered = textOf([STAND_IN, { role: 'assistant', content: PROBE }], false);
    const behind = answered.slice(question.length + PROBE.length).trimStart();
    const isHeader = answered.startsWith(question + PROBE) && behind !== '' && question.endsWith(behind);
    // A further message takes its place.
    const isReplaced = () => !textOf([STAND_IN, STAND_IN], false).startsWith(question);
    asks = isHeader && question === textOf([STAND_IN], true) && isReplaced();
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    asks = false;
  }
  alwaysAsking.set(template, asks);
  return asks;
}

/** The end of the last turn before a prompt for another one, which a further message would replace: after the mark between them. */
function endBeforePrompt(render: Render, whole: Rendering, index: number, marks: readonly string[]): number | null {
  const followed = follow(whole, rendering(render, [...whole.messages, STAND_IN], false), index);
  if (followed === null) return null;
  const end = outsideMarks(whole.text, followed.inWhole + followed.length, marks);
  return end + markAt(whole.text, end, marks).length;
}

/** The count of characters, from the end of a message on, in which the conversation and its beginning agree. Null if that end cannot be located. */
function follow(whole: Rendering, beginning: Rendering, index: number) {
  for (const probed of probedEnds(whole.messages[index]!)) {
    const inWhole = positionOf(whole, index, probed);
    const inBeginning = positionOf(beginning, index, probed);
    if (inWhole === null || inBeginning === null) continue;
    const length = commonPrefix(whole.text.slice(inWhole), beginning.text.slice(inBeginning));
    return { inWhole, inBeginning, length };
  }
  return null;
}

/**
 * The message with one more character at its end: before and after the white space that some templates trim, or in its last call,
 * which templates print after the content. Some print the name of a call once more with its answer, but never an argument.
 */
function probedEnds(message: TemplateMessage): TemplateMessage[] {
  const { content, tool_calls: calls = [] } = message;
  const ofCalls = calls.slice(-1).flatMap((last) => {
    const { name, arguments: values } = last.function;
    const called = [{ name: name + PROBE, arguments: values }];
    const [key, value] = Object.entries(values).at(-1) ?? [];
    if (key !== undefined) {
      const others = Object.entries(values).slice(0, -1);
      called.push({ name, arguments: Object.fromEntries([...others, [key + PROBE, value]]) });
    }
    return called.map((one) => ({ ...message, tool_calls: calls.with(-1, { ...last, function: one }) }));
  });
  const ofContent = [...new Set([stripped(content, WHITE_SPACE, 'rstrip').length, content.length])].map((end) => ({
    ...message,
    content: content.slice(0, end) + PROBE + content.slice(end),
  }));
  return [...ofCalls, ...ofContent];
}

/** The index at which the text differs once a message is replaced by one with one more character. */
function positionOf({ text, withMessage }: Rendering, index: number, message: TemplateMessage): number | null {
  const probed = withMessage(index, message);
  if (probed === null) return null;
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

/** The longest mark that begins at a position; '' if none does. */
function markAt(text: string, position: number, marks: readonly string[]): string {
  return marks.reduce(
    (found, mark) => (mark.length > found.length && text.startsWith(mark, position) ? mark : found),
    '',
  );
}

function notFound(template: ChatTemplate, conversation: TemplateConversation, index: number): ProductError {
  return new ProductError(
    'chat_template_failed',
    'The chat template renders this assistant turn differently than the prompt for it, so the turn cannot be located. ' +
      adviceOn(template, conversation, index),
    { param: `messages.${index}` },
  );
}

function adviceOn(template: ChatTemplate, { messages, tools }: TemplateConversation, index: number): string {
  if (!messages.slice(0, index).some(({ role }) => role === 'user')) return 'Put a user message before it.';
  if (index < messages.length - 1 && isFound(template, { messages: messages.slice(0, index + 1), tools })) {
    return 'The last turn can be located: end the row with this turn.';
  }
  return 'Change the chat_template.jinja of the base model, or upload rows of "text", in which every token is trained.';
}

function isFound(template: ChatTemplate, conversation: TemplateConversation): boolean {
  try {
    turnSegments(template, conversation);
    return true;
  } catch {
    return false;
  }
}
