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
  baseModels: Pick<ModelSource, 'describe' | 'holdOutline'>;
  preflight: Pick<Preflight, 'hasTokens' | 'prepare'>;
  examples: Pick<ExampleStore, 'removeDataset'>;
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>;
}

/** Tokenizes uploaded datasets in the background, one at a time, so that their first job need not. */
export interface TokenPreparations {
  /** @throws ProductError `model_not_found`, and why the model cannot be trained */
  checkModel(baseModel: string): Promise<void>;
  /** Tokenizes the dataset when those before it are done. Never throws: jobs do not depend on it. */
  start(dataset: UploadedDataset, baseModel: string): void;
  /** Resolves when no preparation of this dataset for this model is in progress. */
  running(dataset: string, baseModel: string): Promise<void>;
  /** @throws ProductError `dataset_not_found`, `model_not_found`; why the model cannot be trained */
  status(dataset: string, baseModel: string): Promise<DatasetTokens>;
  /** Starts no further preparation. The one in progress ends with the preflight. */
  close(): void;
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

export function createTokenPreparations(options: TokenPreparationsOptions): TokenPreparations {
  const { catalog, baseModels, preflight, examples, log } = options;
  /** The oldest first. What is done is stored, and no longer here. */
  const known = new Map<string, Preparation>();
  let last = Promise.resolve();
  let isClosed = false;

  const prepare = async (one: Preparation): Promise<void> => {
    if (isClosed) return;
    const { dataset, baseModel } = one;
    const about = { dataset: dataset.id, base_model: baseModel };
    const startMs = performance.now();
    one.status = 'preparing';
    try {
      await withRows(options, one, (rows) => preflight.prepare(rows, (progress) => (one.rows = progress.rows)));
      known.delete(keyOf(dataset.id, baseModel));
      log.info({ ...about, seconds: (performance.now() - startMs) / 1000 }, 'tokens of a dataset prepared');
    } catch (error) {
      if (isClosed) return;
      one.status = 'failed';
      one.error = failureOf(error);
      forgetOldFailures(known);
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
  };

  const checkModel = async (baseModel: string): Promise<void> => {
    const { problem } = await baseModels.describe(baseModel);
    if (problem === null) return;
    throw new ProductError(problem.code as ErrorCode, problem.message, { param: 'base_model' });
  };

  return {
    checkModel,
    start(dataset, baseModel) {
      const key = keyOf(dataset.id, baseModel);
      const waiting = [...known.values()].filter(({ status }) => status !== 'failed');
      if (isClosed || waiting.some((one) => keyOf(one.dataset.id, one.baseModel) === key)) return;
      if (waiting.length >= MAX_WAITING) {
        log.warn({ dataset: dataset.id, waiting: waiting.length }, 'too many datasets wait: this one is not prepared');
        return;
      }
      const one: Preparation = { dataset, baseModel, status: 'waiting', rows: 0, error: null, done: last };
      known.delete(key);
      known.set(key, one);
      one.done = last.then(() => prepare(one));
      last = one.done;
    },
    async running(dataset, baseModel) {
      const one = known.get(keyOf(dataset, baseModel));
      if (one?.status === 'preparing') await one.done;
    },
    async status(id, baseModel) {
      const dataset = await catalog.uploaded(id);
      const about = { object: 'dataset_tokens', dataset: id, base_model: baseModel, total_rows: dataset.rows } as const;
      await checkModel(baseModel);
      // The files may have been stored, or removed, by another process.
      if (await withRows(options, { dataset, baseModel }, preflight.hasTokens)) {
        return { ...about, status: 'ready', rows: dataset.rows, error: null };
      }
      const { status = 'none', rows = 0, error = null } = known.get(keyOf(id, baseModel)) ?? {};
      return { ...about, status, rows, error };
    },
    close() {
      isClosed = true;
    },
  };
}

function keyOf(dataset: string, baseModel: string): string {
  return `${dataset} ${baseModel}`;
}

function forgetOldFailures(known: Map<string, Preparation>): void {
  const failed = [...known].filter(([, { status }]) => status === 'failed');
  for (const [key] of failed.slice(0, -MAX_FAILURES)) known.delete(key);
}

function failureOf(error: unknown): JobFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, details: error.details };
  return {
    code: 'internal_error',
    message: 'The tokens could not be prepared. The log of the api says why.',
    details: [],
  };
}
