import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isLabel, ProductError } from '@lorasmith/contracts';
import { digestOf } from '../resumable-download.js';
import { isRecord, isSourceId, type OpenaiSource, type SourceFile, type SourceJob, sourceJobOf } from './source.js';

const JOBS = 'jobs.json';
const FILES = 'files.json';
const ROWS = '.jsonl';
const VALIDATION = '.validation.jsonl';
/** A list of jobs or files. */
const MAX_LIST_BYTES = 64 * 2 ** 20;
/** The beginning of a file of rows, by which pairs of answers are known. */
const BEGINNING_BYTES = 2 ** 16;
const DIGITS = 24;

/**
 * A folder of files that were downloaded from OpenAI. It needs no key.
 *
 * With `jobs.json`, the answer of `GET /fine_tuning/jobs`, its jobs are those there. The rows of a file are in `<id>.jsonl`, or under the
 * name that `files.json` has for it, the answer of `GET /files`. Without `jobs.json`, each `NAME.jsonl` is a job with automatic
 * hyperparameters, and `NAME.validation.jsonl` its validation file.
 */
export class FolderSource implements OpenaiSource {
  readonly name = 'a folder of files';
  readonly answers = false;
  readonly #folder: string;
  #found: Promise<FolderContent> | null = null;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async *jobs(): AsyncGenerator<SourceJob> {
    yield* (await this.#content()).jobs;
  }

  async job(id: string): Promise<SourceJob> {
    const found = (await this.#content()).jobs.find((job) => job.id === id);
    if (found !== undefined) return found;
    throw new ProductError('openai_gone', `${this.#folder} has no job ${id}.`);
  }

  async file(id: string): Promise<SourceFile> {
    const name = await this.#nameOf(id);
    const { size } = await stat(join(this.#folder, name));
    return { id, name: isLabel(name) ? name : null, bytes: size };
  }

  async *content({ id }: SourceFile): AsyncGenerator<Uint8Array> {
    yield* createReadStream(join(this.#folder, await this.#nameOf(id)));
  }

  async answer(): Promise<null> {
    return null;
  }

  /** The name of the file in the folder. @throws ProductError `openai_gone` */
  async #nameOf(id: string): Promise<string> {
    const names = [...((await this.#content()).names.get(id) ?? []), `${id}${ROWS}`, id];
    for (const name of names) {
      const found = await stat(join(this.#folder, name)).catch(() => null);
      if (found?.isFile()) return name;
    }
    const message = `${this.#folder} has no file ${names.join(', nor ')}. Download the file ${id} into it.`;
    throw new ProductError('openai_gone', message);
  }

  #content(): Promise<FolderContent> {
    this.#found ??= contentOf(this.#folder);
    return this.#found;
  }
}

interface FolderContent {
  jobs: SourceJob[];
  /** Names of the file with an id, within the folder. */
  names: ReadonlyMap<string, readonly string[]>;
}

/** @throws ProductError `invalid_request` if it is no such folder */
async function contentOf(folder: string): Promise<FolderContent> {
  const entries = await readdir(folder).catch((cause: Error) => {
    throw new ProductError('invalid_request', `Cannot read ${folder}: ${cause.message}`, { param: 'folder', cause });
  });
  if (!entries.includes(JOBS)) return await jobsOfFiles(folder, entries.toSorted());
  const jobs = (await listIn(join(folder, JOBS))).map((one) => sourceJobOf(one, `${JOBS} of the folder`));
  const files = entries.includes(FILES) ? await listIn(join(folder, FILES)) : [];
  const names = files.flatMap((file) => {
    const { id, filename } = isRecord(file) ? file : {};
    // A name of somebody else is no path.
    return isSourceId(id) && typeof filename === 'string' ? [[id, [basename(filename)]] as const] : [];
  });
  return { jobs, names: new Map(names) };
}

/** The `data` of an answer, or a list of its own. @throws ProductError `invalid_request` */
async function listIn(file: string): Promise<unknown[]> {
  const { size } = await stat(file);
  if (size <= MAX_LIST_BYTES) {
    const value: unknown = await readFile(file, 'utf8')
      .then(JSON.parse)
      .catch(() => null);
    const list = isRecord(value) ? value.data : value;
    if (Array.isArray(list)) return list;
  }
  const message = `${file} is no list: it must be the JSON that OpenAI's API answers, {"data": […]}, of up to ${MAX_LIST_BYTES} bytes.`;
  throw new ProductError('invalid_request', message, { param: 'folder' });
}

/** A job for each file of rows. Its id follows from the bytes, so that the same files are the same job. */
async function jobsOfFiles(folder: string, entries: readonly string[]): Promise<FolderContent> {
  const names = new Map<string, string[]>();
  const idOf = async (name: string) => {
    const id = `file-${(await digestOf(join(folder, name))).slice(0, DIGITS)}`;
    names.set(id, [...(names.get(id) ?? []), name]);
    return id;
  };
  const training = entries.filter((name) => name.endsWith(ROWS) && !name.endsWith(VALIDATION));
  if (training.length === 0) {
    const message = `${folder} has neither ${JOBS} nor a file NAME${ROWS}. docs/from-openai.md says what it may have.`;
    throw new ProductError('invalid_request', message, { param: 'folder' });
  }
  const jobs: SourceJob[] = [];
  for (const name of training) {
    const title = name.slice(0, -ROWS.length);
    const validation = `${title}${VALIDATION}`;
    const trainingFile = await idOf(name);
    const validationFile = entries.includes(validation) ? await idOf(validation) : null;
    const digest = createHash('sha256')
      .update(`${trainingFile} ${validationFile ?? ''}`)
      .digest('hex');
    jobs.push({
      id: `rows-${digest.slice(0, DIGITS)}`,
      model: 'a model that the folder does not name',
      fineTunedModel: null,
      status: 'succeeded',
      trainingFile,
      validationFile,
      method: { type: await methodOf(join(folder, name)), hyperparameters: {}, grader: null, responseFormat: null },
      seed: null,
      suffix: title,
      metadata: {},
      hasIntegrations: false,
    });
  }
  return { jobs: jobs.reverse(), names };
}

/** The method for the rows of a file: pairs of answers are for dpo. */
async function methodOf(path: string): Promise<'supervised' | 'dpo'> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(BEGINNING_BYTES), 0, BEGINNING_BYTES, 0);
    const [first = ''] = buffer.toString('utf8', 0, bytesRead).split('\n', 1);
    return /"(?:non_)?preferred_output"\s*:/.test(first) ? 'dpo' : 'supervised';
  } finally {
    await file.close();
  }
}
