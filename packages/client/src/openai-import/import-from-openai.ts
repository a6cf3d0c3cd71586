import {
  type Dataset,
  type ImportEnd,
  type ImportedFile,
  type ImportedJob,
  type OpenaiImportEvent,
  ProductError,
  publicText,
} from '@lorasmith/contracts';
import type { Client } from '../client.js';
import type { CallOptions } from '../http-transport.js';
import { gradedRows } from './graded-rows.js';
import { type MappedJob, mappedJob, type TargetModel } from './job-mapping.js';
import { createPatience, type Patience, type Wait } from './patience.js';
import { recordAnswers } from './record-answers.js';
import type { OpenaiSource, SourceFile, SourceJob } from './source.js';

/** The calls of this service that an import makes. */
export type ImportClient = Pick<
  Client,
  'model' | 'listJobs' | 'createJob' | 'listDatasets' | 'uploadDataset' | 'changeDataset' | 'fileContent'
>;

export interface OpenaiImportOptions extends CallOptions {
  source: OpenaiSource;
  client: ImportClient;
  /** The name of the base model that the jobs are trained on here. */
  baseModel: string;
  /** The ids of jobs there. @defaultValue all that have succeeded */
  jobs?: readonly string[] | undefined;
  /** Prompts that the old model of each job is asked. @defaultValue 0 */
  recordAnswers?: number | undefined;
  /** Waits until the key may call this service again. @defaultValue a timer */
  wait?: Wait | undefined;
}

/** A job of the source with its plan. */
export interface PlannedImport {
  job: ImportedJob;
  given: SourceJob;
  /** Null if it cannot be taken over. */
  mapped: MappedJob | null;
}

/** Codes of errors of one job. With any other one the import ends. */
const OF_ONE_JOB = new Set([400, 404, 409, 413, 415, 422]);
const LISTED = 100;

/**
 * Moves fine-tuning jobs and their files in from OpenAI: plans them, and posts them with the rows that they were trained on. What an
 * import has posted is found by the tag that it has, the id of the job there, so it can be repeated at any time.
 */
export class OpenaiImport {
  readonly #options: OpenaiImportOptions;
  readonly #patiently: Patience;
  readonly #files = new Map<string, Promise<SourceFile>>();
  readonly #stored = new Map<string, Dataset>();

  constructor(options: OpenaiImportOptions) {
    this.#options = options;
    this.#patiently = createPatience(options.signal, options.wait);
  }

  /**
   * The plans of the jobs, oldest first. Nothing is fetched but descriptions, and nothing is stored.
   *
   * Throws ProductError `model_not_found`, `openai_access_denied`, `openai_gone`, `openai_unavailable`; errors of the client.
   */
  async *plan(): AsyncGenerator<PlannedImport> {
    const { client, baseModel, signal } = this.#options;
    const target = await this.#patiently(() => client.model(baseModel, { signal }));
    for (const job of await this.#jobs()) yield await this.#planOf(job, target);
  }

  /**
   * Posts the jobs of the plans that can be posted, with their files, and records the answers of their models.
   *
   * Throws ProductError: what ends the import, with what was done until then. A fault of one job is in its event, and the next job follows.
   */
  async *post(plans: readonly PlannedImport[]): AsyncGenerator<OpenaiImportEvent> {
    const ended: ImportedJob[] = [];
    for (const plan of plans) {
      try {
        yield* this.#post(plan);
      } catch (error) {
        this.#options.signal?.throwIfAborted();
        if (!(error instanceof ProductError)) throw error;
        if (!OF_ONE_JOB.has(error.status)) throw endedBy(error, [...ended, plan.job]);
        fail(plan.job, error);
      }
      ended.push(plan.job);
      yield { type: 'job-ended', job: plan.job };
    }
    yield endOf(ended, false);
  }

  async #jobs(): Promise<SourceJob[]> {
    const { source, jobs: ids, signal } = this.#options;
    const found: SourceJob[] = [];
    if (ids === undefined) for await (const job of source.jobs({ signal })) found.unshift(job);
    else for (const id of ids) found.push(await source.job(id, { signal }));
    return found;
  }

  async #planOf(given: SourceJob, target: TargetModel): Promise<PlannedImport> {
    const job: ImportedJob = {
      id: given.id,
      model: given.model,
      fine_tuned_model: given.fineTunedModel,
      status: given.status,
      base_model: target.name,
      training_file: unreadFile(given.trainingFile),
      validation_file: given.validationFile === null ? null : unreadFile(given.validationFile),
      settings: null,
      differs: [],
      outcome: 'planned',
      job: null,
      answers: null,
      no_answers: null,
      error: null,
    };
    if (given.status !== 'succeeded' && this.#options.jobs === undefined) {
      return { job: { ...job, outcome: 'skipped' }, given, mapped: null };
    }
    try {
      const mapped = mappedJob(given, target);
      job.settings = mapped.settings;
      job.differs = mapped.differs;
      const here = await this.#jobHere(job);
      if (here !== null) return { job: { ...job, outcome: 'imported', job: here }, given, mapped };
      await this.#describe(job.training_file, mapped.areRowsGraded);
      await this.#describeValidation(job, mapped.areRowsGraded);
      return { job, given, mapped };
    } catch (error) {
      if (!(error instanceof ProductError) || !OF_ONE_JOB.has(error.status)) throw error;
      fail(job, error);
      return { job, given, mapped: null };
    }
  }

  /** The job that an earlier import has posted, whatever has become of it; null: none. */
  async #jobHere({ id, base_model }: ImportedJob): Promise<string | null> {
    const { client, signal } = this.#options;
    const { data } = await this.#patiently(() => client.listJobs({ tag: id, base_model, limit: LISTED }, { signal }));
    return data.find(({ kind, tags }) => kind === 'train' && tags.includes(id))?.id ?? null;
  }

  /** Fills in what is known of a file. @throws ProductError `openai_gone` if it is neither there nor here */
  async #describe(file: ImportedFile, areGraded: boolean): Promise<void> {
    const here = await this.#datasetHere(tagOf(file.id, areGraded));
    if (here !== null) {
      this.#stored.set(tagOf(file.id, areGraded), here);
      Object.assign(file, { name: here.name, bytes: here.bytes, dataset: here.id });
      return;
    }
    const { name, bytes } = await this.#sourceFile(file.id);
    Object.assign(file, { name, bytes });
  }

  /** A job is trained without the validation file that is gone. */
  async #describeValidation(job: ImportedJob, areGraded: boolean): Promise<void> {
    if (job.validation_file === null) return;
    try {
      await this.#describe(job.validation_file, areGraded);
    } catch (error) {
      if (!(error instanceof ProductError) || error.code !== 'openai_gone') throw error;
      job.differs.push(
        `Its validation file ${job.validation_file.id} cannot be fetched any more, so it is trained without.`,
      );
      job.validation_file = null;
    }
  }

  async #datasetHere(tag: string): Promise<Dataset | null> {
    const { client, signal } = this.#options;
    const { data } = await this.#patiently(() => client.listDatasets({ tag, limit: LISTED }, { signal }));
    return data.find(({ tags }) => tags.includes(tag)) ?? null;
  }

  /** A file there, asked for once. */
  async #sourceFile(id: string): Promise<SourceFile> {
    const { source, signal } = this.#options;
    const asked = this.#files.get(id) ?? source.file(id, { signal });
    this.#files.set(id, asked);
    return await asked;
  }

  async *#post({ job, given, mapped }: PlannedImport): AsyncGenerator<OpenaiImportEvent> {
    if (mapped === null) return;
    const { client, signal } = this.#options;
    const { training_file: trainingFile, validation_file: validationFile } = job;
    if (job.outcome === 'planned') {
      const training = yield* this.#store(trainingFile, mapped.areRowsGraded);
      const validation = validationFile === null ? null : yield* this.#store(validationFile, mapped.areRowsGraded);
      const { source } = this.#options;
      const request = { ...mapped.request({ training, validation }), tags: [job.id], note: noteOf(given, source.name) };
      const idempotencyKey = `openai-import-${job.id}-${job.base_model}`;
      const posted = await this.#patiently(() => client.createJob(request, { idempotencyKey, signal }));
      Object.assign(job, { outcome: 'posted', job: posted.id });
    }
    yield* this.#recordAnswers(job, given, mapped);
  }

  /** The rows of a file as a dataset, which is uploaded unless an import has stored it. */
  async *#store(file: ImportedFile, areGraded: boolean): AsyncGenerator<OpenaiImportEvent, Dataset> {
    const tag = tagOf(file.id, areGraded);
    const known = this.#stored.get(tag) ?? (await this.#datasetHere(tag));
    if (known !== null) {
      this.#stored.set(tag, known);
      file.dataset = known.id;
      return known;
    }
    const described = await this.#sourceFile(file.id);
    const dataset = await this.#uploaded(described, tag, areGraded);
    this.#stored.set(tag, dataset);
    file.dataset = dataset.id;
    yield { type: 'file-stored', file: { ...file } };
    return dataset;
  }

  async #uploaded(file: SourceFile, tag: string, areGraded: boolean): Promise<Dataset> {
    const { client, source, signal } = this.#options;
    const uploaded = await this.#patiently(async () => {
      const content = new WatchedChunks(source.content(file, { signal }));
      const chunks = areGraded ? gradedRows(content.chunks()) : content.chunks();
      return await client.uploadDataset({ chunks }, { name: nameOf(file), signal }).catch((error: unknown) => {
        // The upload only says that its body ended too early.
        throw content.error ?? withFile(error, file.id);
      });
    });
    const change = detailsOf(uploaded, { tag, file, from: source.name });
    if (change === null) return uploaded;
    return await this.#patiently(() => client.changeDataset(uploaded.id, change, { signal }));
  }

  async *#recordAnswers(
    job: ImportedJob,
    given: SourceJob,
    { areRowsGraded }: MappedJob,
  ): AsyncGenerator<OpenaiImportEvent> {
    const { source, client, recordAnswers: count = 0, signal } = this.#options;
    if (count === 0) return;
    if (job.validation_file === null) {
      job.no_answers = 'There is no validation file whose prompts could be asked.';
      return;
    }
    const rows = yield* this.#store(job.validation_file, areRowsGraded);
    const progress: OpenaiImportEvent[] = [];
    const recording = recordAnswers(given, {
      ...{ source, client, rows, count, signal, patiently: this.#patiently },
      onProgress: (answered, total) => progress.push({ type: 'answers-progressed', job: job.id, answered, total }),
    });
    try {
      for await (const event of whileRunning(recording, progress)) yield event;
      job.answers = (await recording).id;
    } catch (error) {
      if (!(error instanceof ProductError) || !OF_ONE_JOB.has(error.status)) throw error;
      // The job itself is posted.
      job.no_answers = error.message;
    }
  }
}

/** The time after which progress is looked for again. */
const PROGRESS_MS = 500;

/** The events that work adds to a list, until it has ended in whatever way. */
async function* whileRunning<Event>(work: Promise<unknown>, events: Event[]): AsyncGenerator<Event> {
  const over = work.then(
    () => true,
    () => true,
  );
  for (;;) {
    let timer: NodeJS.Timeout | number | undefined;
    const tick = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), PROGRESS_MS);
    });
    const isOver = await Promise.race([over, tick]);
    clearTimeout(timer);
    yield* events.splice(0);
    if (isOver) return;
  }
}

/** Chunks whose error is kept: whoever sends them on reports another one. */
class WatchedChunks {
  readonly #chunks: AsyncIterable<Uint8Array>;
  error: unknown = null;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks;
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#chunks;
    } catch (error) {
      this.error = error;
      throw error;
    }
  }
}

/** The counts of an import that has ended. */
export function endOf(jobs: readonly ImportedJob[], isDryRun: boolean): ImportEnd {
  const countOf = (outcome: ImportedJob['outcome']) => jobs.filter((job) => job.outcome === outcome).length;
  return {
    type: 'import-ended',
    dry_run: isDryRun,
    planned: countOf('planned'),
    posted: countOf('posted'),
    imported: countOf('imported'),
    skipped: countOf('skipped'),
    failed: countOf('failed'),
  };
}

function unreadFile(id: string): ImportedFile {
  return { id, name: null, bytes: null, dataset: null };
}

/** The tag of the dataset of a file. Rows of another form are another dataset. */
function tagOf(id: string, areGraded: boolean): string {
  return areGraded ? `graded-${id}` : id;
}

const MAX_NAME = 128;
const nameOf = ({ id, name }: SourceFile) => (name ?? id).slice(0, MAX_NAME);

/** The tags and the note that say where a dataset comes from; null if it can have no more tags. */
function detailsOf({ tags, note }: Dataset, { tag, file, from }: { tag: string; file: SourceFile; from: string }) {
  if (tags.length >= MAX_TAGS) return null;
  const origin = `From ${from}: the file ${file.id}${file.name === null ? '' : `, ${file.name.slice(0, MAX_NAME)}`}.`;
  return { tags: [...new Set([...tags, tag])], ...(note === null ? { note: origin } : {}) };
}

const MAX_TAGS = 20;

function noteOf({ id, model, fineTunedModel }: SourceJob, from: string): string {
  return `From ${from}: the job ${id} on ${model}${fineTunedModel === null ? '' : `, which made ${fineTunedModel}`}.`;
}

function fail(job: ImportedJob, error: ProductError): void {
  job.outcome = 'failed';
  job.error = { code: error.code, message: publicText(error).message, details: error.details };
}

/** An error of an upload with the file that it is about. */
function withFile(error: unknown, id: string): unknown {
  if (!(error instanceof ProductError) || !OF_ONE_JOB.has(error.status)) return error;
  const { code, message, param, details } = error;
  return new ProductError(code, `The file ${id} cannot be used. ${message}`, { param, details, cause: error });
}

/** The error that ends an import, with what was done. */
function endedBy(error: ProductError, ended: readonly ImportedJob[]): ProductError {
  const { posted, imported, failed } = endOf(ended, false);
  const { code, message, param, details, retryAfterSeconds } = error;
  const done = `Until then ${posted} jobs were posted, ${imported} were there before, and ${failed} cannot be posted.`;
  const text = `${message} ${done} Import again: it continues, and does nothing twice.`;
  return new ProductError(code, text, { param, details, retryAfterSeconds });
}
