import { datasetNotFound } from '@lorasmith/artifacts';
import {
  type AdapterManifest,
  type DatasetFormat,
  type DatasetRowPage,
  type GenerationRequest,
  jobOrigin,
  MAX_CHOICES,
  MAX_GUARD_ROWS,
  MAX_ROW_TOKENS,
  ProductError,
  type RowToken,
} from '@lorasmith/contracts';
import type { GenerationClient } from '@lorasmith/queue';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import type { RowViews } from '../datasets/dataset-routes.js';

export interface HeldOutLossOptions {
  catalog: Pick<DatasetCatalog, 'uploaded'>;
  views: RowViews;
  generation: Pick<GenerationClient, 'ask'>;
  /** The time that a request waits for a worker. */
  waitMs: number;
}

export interface ComparedAdapters {
  dataset: string;
  /** Adapters of one base model. Rows become tokens as in the training of the last one. */
  adapters: readonly AdapterManifest[];
  caller: Caller;
  signal: AbortSignal;
}

/** Formats whose rows have answers that a loss is the mean over. */
const FORMATS: readonly DatasetFormat[] = ['messages', 'prompt_completion', 'instruction', 'text'];

/** The sum of the losses of tokens, and their number. */
interface LossSum {
  sum: number;
  tokens: number;
}

/**
 * Losses of adapters on a dataset, computed by workers: each answers with the log-probabilities of the rows. The requests for all adapters are open at
 * the same time, so that they share the passes through the base model. A loss is the mean over the tokens that a job would train, as that of an evaluation.
 */
export class HeldOutLoss {
  readonly #options: HeldOutLossOptions;

  constructor(options: HeldOutLossOptions) {
    this.#options = options;
  }

  /**
   * The loss of each adapter; NaN where one is not finite.
   * @throws ProductError `dataset_not_found`; `invalid_request` for a dataset with too many rows, or of another format; the fault of the first row that a
   * job would refuse; `service_unavailable` if no worker answers; the reason of `signal`
   */
  async of({ dataset: id, adapters, caller, signal }: ComparedAdapters): Promise<number[]> {
    await this.checkDataset(id, caller);
    const { name: baseModel } = adapters[0]!.base_model;
    const sums = adapters.map((): LossSum => ({ sum: 0, tokens: 0 }));
    for (let after: number | null = 0; after !== null; ) {
      signal.throwIfAborted();
      const page: DatasetRowPage = await this.#options.views.page(id, {
        base_model: baseModel,
        ...completionFormatOf(adapters.at(-1)!),
        max_seq_length: MAX_ROW_TOKENS,
        on_overflow: 'truncate',
        limit: MAX_CHOICES,
        after,
      });
      const rows = page.data.map(tokensOf).filter((row) => row.some(({ trained }, index) => trained && index > 0));
      const losses = await Promise.all(adapters.map((adapter) => this.#lossesOf(adapter, rows, signal)));
      for (const [index, { sum, tokens }] of losses.entries()) {
        sums[index]!.sum += sum;
        sums[index]!.tokens += tokens;
      }
      after = page.next;
    }
    if (sums[0]!.tokens === 0) throw new ProductError('invalid_request', `${id} has no tokens that a job would train.`);
    return sums.map(({ sum, tokens }) => sum / tokens);
  }

  /** Checks that losses can be compared on a dataset. @throws ProductError `dataset_not_found`, `invalid_request` */
  async checkDataset(id: string, caller: Caller): Promise<void> {
    const { owner, rows, format } = await this.#options.catalog.uploaded(id);
    if (!mayUse(caller, owner)) throw datasetNotFound(id);
    if (!FORMATS.includes(format)) {
      throw new ProductError(
        'invalid_request',
        `${id} has rows of the format ${format}: a loss needs ${FORMATS.join(', ')}.`,
      );
    }
    if (rows <= MAX_GUARD_ROWS) return;
    const message = `${id} has ${rows} rows, and at most ${MAX_GUARD_ROWS} are compared. Upload some of them as a dataset of its own.`;
    throw new ProductError('invalid_request', message);
  }

  /** Asks a worker for the log-probabilities of some rows. */
  async #lossesOf(adapter: AdapterManifest, rows: readonly RowToken[][], signal: AbortSignal): Promise<LossSum> {
    if (rows.length === 0) return { sum: 0, tokens: 0 };
    const { generation, waitMs } = this.#options;
    const logprobs = rows.map((): (number | null)[] => []);
    const request = scoringRequest(adapter, rows);
    for await (const piece of generation.ask(request, { waitMs, signal })) {
      if (piece.type === 'failed') throw new ProductError(piece.failure.code, piece.failure.message);
      if (piece.type === 'text') logprobs[piece.choice]!.push(...piece.tokens.map(({ logprob }) => logprob));
    }
    signal.throwIfAborted();
    const losses = rows.flatMap((row, index) => trainedLosses(row, logprobs[index]!));
    return { sum: losses.reduce((sum, loss) => sum + loss, 0), tokens: losses.length };
  }
}

/** The way in which the job of an adapter read rows with an answer; the default for one without a job. */
function completionFormatOf({ origin }: AdapterManifest) {
  const made = jobOrigin(origin);
  return made === null ? {} : { completion_format: made.settings.training.completion_format };
}

/** The tokens of a row, without what is cut; none if a job would drop it. @throws ProductError its fault */
function tokensOf({ line, faults: [fault], tokens }: DatasetRowPage['data'][number]): RowToken[] {
  if (fault !== undefined) throw new ProductError('invalid_dataset', `Line ${line}: ${fault.message}`);
  const [sequence] = tokens?.sequences ?? [];
  return sequence === undefined ? [] : tokens!.data.slice(0, sequence.tokens);
}

function scoringRequest({ id, base_model: base }: AdapterManifest, rows: readonly RowToken[][]): GenerationRequest {
  return {
    base_model: base.name,
    adapter: id,
    input: { kind: 'text', prompts: rows.map((row) => row.map((token) => token.id)), echo: true },
    schema: null,
    n: 1,
    max_tokens: 0,
    temperature: 0,
    top_p: 1,
    top_k: 0,
    min_p: 0,
    presence_penalty: 0,
    frequency_penalty: 0,
    repetition_penalty: 1,
    seed: 0,
    stop: [],
    logprobs: 0,
  };
}

/**
 * The losses of the tokens of a row that a job would train. One that is not finite comes as null, and makes the mean NaN.
 * @throws ProductError `internal_error` if the answer is about other tokens
 */
function trainedLosses(row: readonly RowToken[], logprobs: readonly (number | null)[]): number[] {
  if (logprobs.length !== row.length) {
    const message = `A worker answered with ${logprobs.length} log-probabilities of ${row.length} tokens.`;
    throw new ProductError('internal_error', message);
  }
  // Nothing predicts the first token.
  return row.flatMap(({ trained }, index) => (trained && index > 0 ? [-(logprobs[index] ?? Number.NaN)] : []));
}
