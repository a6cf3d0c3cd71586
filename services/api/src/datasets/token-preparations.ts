import type { ModelSource } from '@lorasmith/base-models';
import {
  type DatasetTokens,
  type ErrorCode,
  type JobFailure,
  ProductError,
  type UploadedDataset,
} from '@lorasmith/contracts';
import type { ExampleStore } from '@lorasmith/planning';
import type { FastifyBaseLogger } from 'fastify';
import type { Preflight } from '../jobs/preflight.js';
import type { DatasetCatalog } from './dataset-catalog.js';
import { withRows } from './file-leases.js';

export interface TokenPreparationsOptions {
  catalog: Pick<DatasetCatalog, 'uploaded' | 'lease'>;
  baseModels: Pick<ModelSource, 'describe' | 'leaseWithoutWeights'>;
  preflight: Pick<Preflight, 'hasTokens' | 'prepare'>;
  examples: Pick<ExampleStore, 'removeDataset'>;
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>;
}

interface Preparation {
  dataset: UploadedDataset;
  baseModel: string;
  status: 'waiting' | 'preparing' | 'failed';
  rows: number;
  error: JobFailure | null;
  /** Settled when it is no longer in progress; never rejects. */
  done: Promise<void>;
}

/** Uploads beyond these are not prepared: their first jobs tokenize them. */
const MAX_WAITING = 100;
/** Limits, for docs/limits.md. */
export const preparationLimits = {
  waiting: {
    value: MAX_WAITING,
    unit: 'datasets',
    beyond: 'further ones are not prepared; their first jobs tokenize them',
  },
};
/** Failures that are remembered, with up to 100 faults each. */
const MAX_FAILURES = 20;

/** Tokenizes uploaded datasets in the background, one at a time, so that their first job need not. */
export class TokenPreparations {
  readonly #options: TokenPreparationsOptions;
  /** The oldest first. What is done is stored, and no longer here. */
  readonly #known = new Map<string, Preparation>();
  #last = Promise.resolve();
  #isClosed = false;

  constructor(options: TokenPreparationsOptions) {
    this.#options = options;
  }

  /** Checks that a base model can be trained. @throws ProductError `model_not_found`, and why the model cannot be trained */
  async checkModel(baseModel: string): Promise<void> {
    const { problem } = await this.#options.baseModels.describe(baseModel);
    if (problem === null) return;
    throw new ProductError(problem.code as ErrorCode, problem.message, { param: 'base_model' });
  }

  /** Tokenizes the dataset when those before it are done. Never throws: jobs do not depend on it. */
  start(dataset: UploadedDataset, baseModel: string): void {
    const key = keyOf(dataset.id, baseModel);
    const waiting = [...this.#known.values()].filter(({ status }) => status !== 'failed');
    if (this.#isClosed || waiting.some((one) => keyOf(one.dataset.id, one.baseModel) === key)) return;
    if (waiting.length >= MAX_WAITING) {
      const about = { dataset: dataset.id, waiting: waiting.length };
      this.#options.log.warn(about, 'too many datasets wait: this one is not prepared');
      return;
    }
    const one: Preparation = { dataset, baseModel, status: 'waiting', rows: 0, error: null, done: this.#last };
    this.#known.delete(key);
    this.#known.set(key, one);
    one.done = this.#last.then(() => this.#prepare(one));
    this.#last = one.done;
  }

  /** Resolves when no preparation of this dataset for this model is in progress. */
  async running(dataset: string, baseModel: string): Promise<void> {
    const one = this.#known.get(keyOf(dataset, baseModel));
    if (one?.status === 'preparing') await one.done;
  }

  /** The state of a dataset's tokens. @throws ProductError `dataset_not_found`, `model_not_found`; why the model cannot be trained */
  async status(id: string, baseModel: string): Promise<DatasetTokens> {
    const { catalog, preflight } = this.#options;
    const dataset = await catalog.uploaded(id);
    const about = { object: 'dataset_tokens', dataset: id, base_model: baseModel, total_rows: dataset.rows } as const;
    await this.checkModel(baseModel);
    // The files may have been stored, or removed, by another process.
    if (await withRows(this.#options, { dataset, baseModel }, (rows) => preflight.hasTokens(rows))) {
      return { ...about, status: 'ready', rows: dataset.rows, error: null };
    }
    const { status = 'none', rows = 0, error = null } = this.#known.get(keyOf(id, baseModel)) ?? {};
    return { ...about, status, rows, error };
  }

  /** Starts no further preparation. The one in progress ends with the preflight. */
  close(): void {
    this.#isClosed = true;
  }

  async #prepare(one: Preparation): Promise<void> {
    if (this.#isClosed) return;
    const { catalog, preflight, examples, log } = this.#options;
    const { dataset, baseModel } = one;
    const about = { dataset: dataset.id, base_model: baseModel };
    const startMs = performance.now();
    one.status = 'preparing';
    try {
      await withRows(this.#options, one, (rows) => preflight.prepare(rows, (progress) => (one.rows = progress.rows)));
      this.#known.delete(keyOf(dataset.id, baseModel));
      log.info({ ...about, seconds: (performance.now() - startMs) / 1000 }, 'tokens of a dataset prepared');
    } catch (error) {
      if (this.#isClosed) return;
      one.status = 'failed';
      one.error = failureOf(error);
      this.#forgetOldFailures();
      // The message of a fault may quote a row, which belongs in no log.
      const why = error instanceof ProductError ? { code: error.code } : { err: error };
      log.warn({ ...about, ...why }, 'the tokens of a dataset were not prepared');
    }
    // It may have been deleted meanwhile, and its tokens before these were stored.
    const isThere = await catalog.uploaded(dataset.id).then(
      () => true,
      () => false,
    );
    if (!isThere) await examples.removeDataset(dataset.id).catch(() => {});
  }

  #forgetOldFailures(): void {
    const failed = [...this.#known].filter(([, { status }]) => status === 'failed');
    for (const [key] of failed.slice(0, -MAX_FAILURES)) this.#known.delete(key);
  }
}

function keyOf(dataset: string, baseModel: string): string {
  return `${dataset} ${baseModel}`;
}

function failureOf(error: unknown): JobFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, details: error.details };
  return {
    code: 'internal_error',
    message: 'The tokens could not be prepared. The log of the api says why.',
    details: [],
  };
}
