import { isLabel, ProductError, SOURCE_ID_PATTERN } from '@lorasmith/contracts';
import type { CallOptions } from '../http-transport.js';

/** A fine-tuning job as OpenAI's API describes it. Fields that an import does not use are left out. */
export interface SourceJob {
  id: string;
  /** The model that was trained. */
  model: string;
  /** The model that it made; null unless it has succeeded. */
  fineTunedModel: string | null;
  status: string;
  trainingFile: string;
  validationFile: string | null;
  method: { type: string; hyperparameters: Record<string, unknown>; grader: unknown; responseFormat: unknown };
  seed: number | null;
  suffix: string | null;
  metadata: Record<string, string>;
  hasIntegrations: boolean;
}

export interface SourceFile {
  id: string;
  name: string | null;
  bytes: number | null;
}

/** A question to a model of the source, in the form of a chat. */
export interface SourceQuestion {
  model: string;
  messages: unknown[];
  tools: unknown[] | null;
}

/** The place that jobs and files come from: OpenAI's wire, or a folder. */
export interface OpenaiSource {
  /** The address or the kind of the place, for notes and messages. It has no secret. */
  readonly name: string;
  /** False if its models cannot be asked. */
  readonly answers: boolean;
  /** All jobs, newest first. @throws ProductError `openai_access_denied`, `openai_unavailable` */
  jobs(call: CallOptions): AsyncGenerator<SourceJob>;
  /** @throws ProductError `openai_gone`; errors of `jobs` */
  job(id: string, call: CallOptions): Promise<SourceJob>;
  /** @throws ProductError `openai_gone`; errors of `jobs` */
  file(id: string, call: CallOptions): Promise<SourceFile>;
  /** The bytes of a file, all of them or an error. The chunks throw as `file` does. */
  content(file: SourceFile, call: CallOptions): AsyncGenerator<Uint8Array>;
  /** The message that a model answers; null if it refuses this question. @throws ProductError as `file` */
  answer(question: SourceQuestion, call: CallOptions): Promise<Record<string, unknown> | null>;
}

const sourceId = new RegExp(SOURCE_ID_PATTERN);

/** True if a text can be the id of a job or a file. It becomes a tag, and part of an address. */
export function isSourceId(text: unknown): text is string {
  return typeof text === 'string' && sourceId.test(text);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const textOrNull = (value: unknown) => (typeof value === 'string' && isLabel(value) ? value : null);
/** Names and models that are longer are no names. */
const MAX_TEXT = 200;

/**
 * Reads a job of OpenAI's API.
 * @param name - The place that it comes from, for messages.
 * @throws ProductError `openai_unavailable` if it is none
 */
export function sourceJobOf(value: unknown, name: string): SourceJob {
  const given = isRecord(value) ? value : {};
  const { id, training_file: training, validation_file: validation, seed, metadata } = given;
  const model = textOrNull(given.model);
  if (!isSourceId(id)) throw notOpenai(name, 'a fine-tuning job has no id that can be used');
  if (model === null || model.length > MAX_TEXT) throw notOpenai(name, `the job ${id} names no model`);
  if (!isSourceId(training)) throw notOpenai(name, `the job ${id} names no training file`);
  if (validation != null && !isSourceId(validation))
    throw notOpenai(name, `the validation file of the job ${id} has no id that can be used`);
  return {
    id,
    model,
    fineTunedModel: textOrNull(given.fine_tuned_model)?.slice(0, MAX_TEXT) ?? null,
    status: (textOrNull(given.status) ?? 'succeeded').slice(0, MAX_TEXT),
    trainingFile: training,
    validationFile: validation ?? null,
    method: methodOf(given),
    seed: typeof seed === 'number' && Number.isInteger(seed) ? seed : null,
    suffix: textOrNull(given.user_provided_suffix),
    metadata: isRecord(metadata) ? stringsOf(metadata) : {},
    hasIntegrations: Array.isArray(given.integrations) && given.integrations.length > 0,
  };
}

/** The method, and its settings where they are now, or where they were before there were methods. */
function methodOf({ method, hyperparameters: older }: Record<string, unknown>): SourceJob['method'] {
  const { type = 'supervised' } = isRecord(method) ? method : {};
  const name = typeof type === 'string' ? type.slice(0, MAX_TEXT) : 'unknown';
  const own = isRecord(method) && isRecord(method[name]) ? method[name] : {};
  const settings = isRecord(own.hyperparameters) ? own.hyperparameters : {};
  return {
    type: name,
    hyperparameters: { ...(isRecord(older) ? older : {}), ...settings },
    grader: own.grader ?? null,
    responseFormat: own.response_format ?? null,
  };
}

function stringsOf(values: Record<string, unknown>): Record<string, string> {
  const entries = Object.entries(values).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return Object.fromEntries(entries);
}

/** The error for an answer that is not OpenAI's. */
export function notOpenai(name: string, what: string): ProductError {
  const message = `${name} does not answer as OpenAI's API does: ${what}. Is the address right? It usually ends in /v1.`;
  return new ProductError('openai_unavailable', message);
}
