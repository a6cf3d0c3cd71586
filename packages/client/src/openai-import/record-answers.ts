import { type Dataset, MAX_NOTE_CHARACTERS, ProductError } from '@lorasmith/contracts';
import type { Client } from '../client.js';
import type { CallOptions } from '../http-transport.js';
import type { Patience } from './patience.js';
import { isRecord, type OpenaiSource, type SourceJob, type SourceQuestion } from './source.js';
import { textLines } from './text-lines.js';

export interface RecordAnswersOptions extends CallOptions {
  source: OpenaiSource;
  client: Pick<Client, 'listDatasets' | 'uploadDataset' | 'changeDataset' | 'fileContent'>;
  patiently: Patience;
  /** Rows whose prompts are asked: those of the validation file, as they are stored here. */
  rows: Dataset;
  /** The most prompts that are asked, the first ones. */
  count: number;
  /** Called with the questions that were answered or refused. */
  onProgress?: ((answered: number, total: number) => void) | undefined;
}

/** Questions at once: more meet the limits of a small account. */
const AT_ONCE = 4;
/** Terms that concern what is recorded. They are read by people: nothing is decided by them here. */
const TERMS =
  "OpenAI's terms of use restrict using output to develop models that compete with OpenAI. Read the terms that apply to you before you train on it.";

/**
 * Asks the model of a job the prompts of rows, and stores its answers as a dataset with their origin. It is stored whole or not at all; one
 * that an earlier import stored is returned.
 *
 * @throws ProductError `openai_gone` if the model no longer answers; `invalid_request` if there is nothing to ask or no answer; errors of
 * source and client
 */
export async function recordAnswers(job: SourceJob, options: RecordAnswersOptions): Promise<Dataset> {
  const { source, client, patiently, rows, signal, onProgress } = options;
  const model = job.fineTunedModel;
  if (model === null) throw nothing('The job has no model: it has not succeeded there.');
  if (!source.answers) throw nothing(`${source.name} has no models to ask.`);
  const name = answersName(job);
  const found = await patiently(() => client.listDatasets({ q: job.id, limit: 100 }, { signal }));
  const stored = found.data.find((dataset) => dataset.name === name || dataset.tags.includes(answersTag(job)));
  if (stored !== undefined) return stored;

  const questions = await patiently(() => questionsOf(rows, model, options));
  if (questions.length === 0) throw nothing(`The rows of ${rows.id} have no prompts of messages.`);
  const lines: string[] = [];
  for (let start = 0; start < questions.length; start += AT_ONCE) {
    const batch = questions.slice(start, start + AT_ONCE);
    const answered = await Promise.all(batch.map(async (one) => rowOf(one, await source.answer(one, { signal }))));
    lines.push(...answered.filter((line) => line !== null));
    onProgress?.(start + batch.length, questions.length);
  }
  if (lines.length === 0) throw nothing(`${model} answered none of ${questions.length} prompts.`);
  // The name is stored with the rows, so that an import that ends here finds them.
  const text = lines.join('');
  const dataset = await patiently(() => client.uploadDataset({ text }, { name, signal }));
  const origin = [
    `Answers of ${model} to ${lines.length} of ${questions.length} prompts of ${rows.name ?? rows.id} (${rows.id}), at temperature 0.`,
    `Asked of ${source.name} on ${new Date().toISOString().slice(0, 10)}; the job was ${job.id}.`,
    TERMS,
  ].join('\n');
  // The same answers of another model are the same dataset.
  const note = [dataset.note, origin]
    .filter((one) => one !== null)
    .join('\n')
    .slice(0, MAX_NOTE_CHARACTERS);
  const tags = [...new Set([...dataset.tags, answersTag(job)])];
  return await patiently(() => client.changeDataset(dataset.id, { tags, note }, { signal }));
}

const answersName = ({ id }: SourceJob) => `answers of ${id}`;
const answersTag = ({ id }: SourceJob) => `answers-${id}`;

async function questionsOf(
  rows: Dataset,
  model: string,
  { client, count, signal }: RecordAnswersOptions,
): Promise<SourceQuestion[]> {
  const questions: SourceQuestion[] = [];
  for await (const line of textLines(client.fileContent(rows.id, { signal }))) {
    if (questions.length === count) break;
    const prompt = line.trim() === '' ? null : promptOf(JSON.parse(line));
    if (prompt !== null) questions.push({ model, ...prompt });
  }
  return questions;
}

/** The messages before the answer of a row, and its tools; null for a row of another form. */
function promptOf(row: unknown): Omit<SourceQuestion, 'model'> | null {
  const given = isRecord(row) ? row : {};
  // A pair has its prompt in "input", a graded prompt in "prompt".
  const from = isRecord(given.input) ? given.input : given;
  const { messages = from.prompt, tools } = from;
  if (!Array.isArray(messages)) return null;
  const last = messages.findLastIndex((message) => isRecord(message) && message.role === 'assistant');
  const prompt = (last === messages.length - 1 ? messages.slice(0, last) : messages).map(withoutWeight);
  return prompt.length === 0
    ? null
    : { messages: prompt, tools: Array.isArray(tools) && tools.length > 0 ? tools : null };
}

/** A message without the field that only training has. */
function withoutWeight(message: unknown): unknown {
  if (!isRecord(message)) return message;
  const { weight: _, ...rest } = message;
  return rest;
}

/** The row of an answer; null if the model refused. */
function rowOf({ messages, tools }: SourceQuestion, answer: Record<string, unknown> | null): string | null {
  if (answer === null || answer.refusal != null) return null;
  const { content, tool_calls: calls } = answer;
  const hasCalls = Array.isArray(calls) && calls.length > 0;
  if (!hasCalls && (typeof content !== 'string' || content === '')) return null;
  const message = {
    role: 'assistant',
    content: typeof content === 'string' ? content : null,
    ...(hasCalls ? { tool_calls: calls } : {}),
  };
  return `${JSON.stringify({ messages: [...messages, message], ...(tools === null ? {} : { tools }) })}\n`;
}

function nothing(message: string): ProductError {
  return new ProductError('invalid_request', message, { param: 'record_answers' });
}
