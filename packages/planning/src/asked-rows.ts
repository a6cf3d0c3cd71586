import { createHash } from 'node:crypto';
import {
  type ChatMessage,
  type DatasetFormat,
  type GradedPromptRow,
  type LabelledRow,
  type MessagesRow,
  type OpenAiPreferenceRow,
  type PreferenceRow,
  type Tool,
  textOfMessage,
  toolCallsOf,
} from '@lorasmith/contracts';
import { SeededRandom } from '@lorasmith/seeded-random';
import { readLines, textOfLine } from './json-lines.js';
import { instructionPrompt } from './objectives/next-token/encode-row.js';

/** A prompt of a row, whose next turn is wanted. */
export interface AskedPrompt {
  messages: ChatMessage[];
  tools: Tool[] | null;
  /** The same as plain text, where the row has a text and no turns: what a model continues that was trained on such; null: it has turns. */
  plainText: string | null;
}

/** A row with its prompt, and its own answer. */
export interface AskedRow {
  /** Its line in the dataset, from 1. */
  line: number;
  prompt: AskedPrompt;
  /** Its own answer, or what graders compare answers with; undefined: it has none. */
  reference: unknown;
}

/** A row that cannot be asked, and why, in a sentence. */
export interface UnaskedRow {
  line: number;
  fault: string;
}

/** Bytes of a line that is asked: a longer one fits no model's prompt and a judge's message. */
const MAX_ASKED_BYTES = 2 ** 16;
/** Limits, for docs/limits.md. */
export const askedRowLimits = {
  bytes: { value: MAX_ASKED_BYTES, unit: 'bytes', beyond: 'the row fails' },
};

type Asked = Omit<AskedRow, 'line'> | null;
type Turns = string | MessagesRow['messages'];

/** The prompt of a row of each format; null for one that has none, and for formats whose rows have none. */
const PROMPTS: { [Format in DatasetFormat]: ((row: never) => Asked) | null } = {
  messages: ({ messages, tools }: MessagesRow) => beforeLastAnswer(messages, tools),
  prompt_completion: ({ prompt, completion }: { prompt: string; completion: string }) => ofText(prompt, completion),
  instruction: (row: { instruction: string; input?: string; output: string }) =>
    ofText(instructionPrompt(row, false), row.output, instructionPrompt(row, true)),
  text: null,
  features: null,
  preference({ prompt, chosen, tools }: PreferenceRow) {
    if (prompt !== undefined) return ofPrompt(prompt, textOf(chosen), tools);
    return typeof chosen === 'string' ? null : beforeLastAnswer(chosen, tools);
  },
  openai_preference: ({ input, preferred_output: preferred }: OpenAiPreferenceRow) =>
    ofPrompt(input.messages, textOf(preferred), input.tools),
  labelled_completion: ({ prompt, completion, label, tools }: LabelledRow) =>
    ofPrompt(prompt, label ? textOf(completion) : undefined, tools),
  graded_prompt: ({ prompt, reference, tools }: GradedPromptRow) => ofPrompt(prompt, reference, tools),
};

/** True if the rows of this format have prompts. */
export function hasPrompts(format: DatasetFormat): boolean {
  return PROMPTS[format] !== null;
}

/** Names a prompt, so that rows of other datasets with the same one are found. */
export function promptKey({ messages }: AskedPrompt): string {
  const turns = messages.map((message) => [
    message.role === 'developer' ? 'system' : message.role,
    textOfMessage(message),
    toolCallsOf(message).map((call) => [call.function.name, call.function.arguments]),
  ]);
  return createHash('sha256').update(JSON.stringify(turns)).digest('base64');
}

/** The text of an answer: its turns one after the other, with calls of tools as `name(arguments)`. */
export function textOf(answer: Turns): string {
  return typeof answer === 'string' ? answer : answer.map(textOfTurn).join('\n');
}

/** The text of a turn, with its calls. */
export function textOfTurn(message: ChatMessage): string {
  const calls = toolCallsOf(message).map(({ function: { name, arguments: given } }) => {
    return `${name}(${typeof given === 'string' ? given : JSON.stringify(given)})`;
  });
  return [textOfMessage(message), ...calls].filter((text) => text !== '').join('\n');
}

export interface DrawOptions {
  /** JSONL of rows that were checked. */
  rowsFile: string;
  format: DatasetFormat;
  /** The most rows. */
  count: number;
  seed: number;
  /** Only rows whose prompt has one of these keys. @defaultValue all rows */
  keys?: ReadonlySet<string> | undefined;
  signal: AbortSignal;
}

/**
 * Draws rows of a dataset, the same for the same seed, in the order of their lines.
 * @throws ProductError `dataset_not_found`; the reason of `signal`
 */
export async function drawAskedRows(options: DrawOptions): Promise<(AskedRow | UnaskedRow)[]> {
  const { format, count, seed, keys } = options;
  const random = new SeededRandom(seed, 'rows of a comparison');
  const drawn: { priority: number; line: number; text: string | null }[] = [];
  for await (const { line, text } of textsOf(options)) {
    const priority = random.next();
    const last = drawn.length < count ? undefined : drawn.at(-1);
    if (last !== undefined && priority >= last.priority) continue;
    if (keys !== undefined && !isWanted(rowOf(line, text, format), keys)) continue;
    const place = drawn.findIndex((other) => other.priority > priority);
    drawn.splice(place === -1 ? drawn.length : place, 0, { priority, line, text });
    if (drawn.length > count) drawn.pop();
  }
  return drawn.sort((one, other) => one.line - other.line).map(({ line, text }) => rowOf(line, text, format));
}

/** The own answers of the rows of a dataset, by the keys of their prompts. Of several to a prompt, the first counts. @throws as {@link drawAskedRows} */
export async function answersByPrompt(
  options: Pick<DrawOptions, 'rowsFile' | 'format' | 'signal'>,
): Promise<Map<string, { line: number; text: string }>> {
  const answers = new Map<string, { line: number; text: string }>();
  for await (const { line, text } of textsOf(options)) {
    const row = rowOf(line, text, options.format);
    if (!('prompt' in row) || typeof row.reference !== 'string') continue;
    const key = promptKey(row.prompt);
    if (!answers.has(key)) answers.set(key, { line, text: row.reference });
  }
  return answers;
}

function isWanted(row: AskedRow | UnaskedRow, keys: ReadonlySet<string>): boolean {
  return 'prompt' in row && keys.has(promptKey(row.prompt));
}

/** The lines that are not blank; null for the text of one that is too long. */
async function* textsOf({ rowsFile, signal }: Pick<DrawOptions, 'rowsFile' | 'signal'>) {
  for await (const lines of readLines(rowsFile)) {
    signal.throwIfAborted();
    for (const { number: line, bytes } of lines) {
      const isLong = bytes === null || bytes.length > MAX_ASKED_BYTES;
      const text = isLong ? null : textOfLine(line, bytes);
      if (text !== '') yield { line, text };
    }
  }
}

function rowOf(line: number, text: string | null, format: DatasetFormat): AskedRow | UnaskedRow {
  if (text === null) return { line, fault: `The row has more than ${MAX_ASKED_BYTES} bytes.` };
  const read = PROMPTS[format] as ((row: unknown) => Asked) | null;
  const asked = read?.(JSON.parse(text)) ?? null;
  return asked === null ? { line, fault: 'The row has no prompt.' } : { line, ...asked };
}

function ofText(prompt: string, reference: unknown, plainText = prompt): Asked {
  return { prompt: { messages: [{ role: 'user', content: prompt }], tools: null, plainText }, reference };
}

function ofPrompt(prompt: Turns, reference: unknown, tools: Tool[] | null | undefined): Asked {
  if (typeof prompt !== 'string') return ofTurns(prompt, reference, tools);
  const asked = ofText(prompt, reference)!;
  return { ...asked, prompt: { ...asked.prompt, tools: tools ?? null } };
}

/** The turns before the last one of the assistant, which is the own answer; all of them where it has none. */
function beforeLastAnswer(messages: MessagesRow['messages'], tools: Tool[] | null | undefined): Asked {
  const last = messages.findLastIndex(({ role }) => role === 'assistant');
  if (last === -1) return ofTurns(messages, undefined, tools);
  return ofTurns(messages.slice(0, last), textOfTurn(messages[last]!), tools);
}

function ofTurns(turns: MessagesRow['messages'], reference: unknown, tools: Tool[] | null | undefined): Asked {
  if (turns.length === 0) return null;
  // Only training has weights.
  const messages = turns.map(({ weight: _, ...message }) => message);
  return { prompt: { messages, tools: tools != null && tools.length > 0 ? tools : null, plainText: null }, reference };
}
