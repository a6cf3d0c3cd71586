import { datasetNotFound, readManifest } from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import {
  COMPARISON_DEFAULTS,
  type ComparedModel,
  type Comparison,
  type ComparisonRequest,
  type CompletionFormat,
  DatasetId,
  DEFAULT_COMPLETION_FORMAT,
  jobOrigin,
  ProductError,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { compilePairJudge, GraderError } from '@lorasmith/graders';
import { hasPrompts } from '@lorasmith/planning';
import type { JobStore } from '@lorasmith/queue';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import { askedJudgeOf, type JudgeClient } from '../judging/judge-client.js';
import type { GenerationLimits } from '../openai/generation-request.js';
import type { ModelDirectory } from '../openai/model-directory.js';

export interface ComparisonRequestsOptions {
  store: Pick<JobStore['comparisons'], 'create'>;
  catalog: Pick<DatasetCatalog, 'uploaded'>;
  models: Pick<ModelDirectory, 'resolve'>;
  adapters: Pick<BundleStore, 'has' | 'readJson'>;
  baseModels: Pick<ModelSource, 'describe'>;
  judges: Pick<JudgeClient, 'check'>;
  limits: GenerationLimits;
}

/** Rows of a dataset with stored answers: all of their prompts are in memory. */
const MAX_STORED_ANSWERS = 10_000;
/** Limits, for docs/limits.md. */
export const comparisonRequestLimits = {
  storedAnswers: { value: MAX_STORED_ANSWERS, unit: 'rows', beyond: '422 `invalid_comparison`' },
};

/** Checks and queues comparisons. */
export class ComparisonRequests {
  readonly #options: ComparisonRequestsOptions;

  constructor(options: ComparisonRequestsOptions) {
    this.#options = options;
  }

  /**
   * Queues a comparison, after every check that needs no row and asks no model.
   * @throws ProductError `dataset_not_found`, `invalid_comparison`, `invalid_request`; errors of a model that cannot be asked; `quota_exceeded`,
   * `queue_full`
   */
  async create(request: ComparisonRequest, caller: Caller): Promise<Comparison> {
    const { store, judges, limits } = this.#options;
    const { models: names, dataset: datasetId, judge, ...settings } = request;
    const { maxTokens } = limits;
    if ((request.max_tokens ?? 0) > maxTokens) {
      const message = `max_tokens must be <= ${maxTokens}, the limit of this service (GENERATION_MAX_TOKENS).`;
      throw new ProductError('invalid_request', message, { param: 'max_tokens' });
    }
    checkJudge(judge);
    const dataset = await this.#dataset(datasetId, caller, 'dataset');
    await judges.check(askedJudgeOf(judge), caller, { code: 'invalid_comparison', param: 'judge' });
    const models: ComparedModel[] = [];
    for (const [index, name] of names.entries()) models.push(await this.#side(name, caller, `models.${index}`));
    const [one, other] = models as [ComparedModel, ComparedModel];
    if (one.base_model === other.base_model && one.adapter === other.adapter && one.answers === other.answers) {
      const message = `${one.name} and ${other.name} are the same: its answers would be compared with themselves. Name another model.`;
      throw new ProductError('invalid_comparison', message, { param: 'models' });
    }
    return await store.create({
      ...COMPARISON_DEFAULTS,
      max_tokens: Math.min(COMPARISON_DEFAULTS.max_tokens, maxTokens),
      ...settings,
      owner: caller.owner,
      models,
      dataset: dataset.id,
      judge,
    });
  }

  /** A dataset whose rows have prompts. */
  async #dataset(id: string, caller: Caller, param: string): Promise<UploadedDataset> {
    const dataset = await this.#options.catalog.uploaded(id).catch((error: unknown) => {
      throw error instanceof ProductError && error.status < 500 ? at(param, error) : error;
    });
    if (!mayUse(caller, dataset.owner)) throw at(param, datasetNotFound(id));
    if (hasPrompts(dataset.format)) return dataset;
    const message = `${id} has rows of the format ${dataset.format}, which have no prompts to answer.`;
    throw new ProductError('invalid_comparison', message, { param });
  }

  async #side(name: string, caller: Caller, param: string): Promise<ComparedModel> {
    if (Value.Check(DatasetId, name)) {
      const { id, rows } = await this.#dataset(name, caller, param);
      if (rows > MAX_STORED_ANSWERS) {
        const message = `${id} has ${rows} rows, and stored answers of at most ${MAX_STORED_ANSWERS} are compared. Upload some of them as a dataset of its own.`;
        throw new ProductError('invalid_comparison', message, { param });
      }
      return { name, base_model: null, adapter: null, answers: id, completion_format: null };
    }
    const model = await this.#options.models.resolve(name, caller).catch((error: unknown) => {
      throw error instanceof ProductError && error.status < 500 ? at(param, error) : error;
    });
    return { name, ...model, answers: null, completion_format: await this.#completionFormat(model) };
  }

  /** The form in which a model was trained on prompts that are texts. */
  async #completionFormat({ base_model: base, adapter }: Awaited<ReturnType<ModelDirectory['resolve']>>) {
    const { text } = await this.#options.baseModels.describe(base);
    if (text?.chat_template == null) return 'text';
    if (adapter === null) return DEFAULT_COMPLETION_FORMAT;
    const { origin } = await readManifest(this.#options.adapters, adapter);
    const format: CompletionFormat | null = jobOrigin(origin)?.settings.training.completion_format ?? null;
    return format ?? DEFAULT_COMPLETION_FORMAT;
  }
}

/** @throws ProductError `invalid_comparison` for a rubric or a pattern that cannot be read */
function checkJudge(judge: ComparisonRequest['judge']): void {
  try {
    compilePairJudge(judge);
  } catch (error) {
    if (!(error instanceof GraderError)) throw error;
    throw new ProductError('invalid_comparison', error.message, { param: `judge.${error.param}`, cause: error });
  }
}

function at(param: string, error: ProductError): ProductError {
  return new ProductError(error.code, error.message, { param, details: error.details, cause: error });
}
