import { type ForwardBackwardOp, ProductError, type RowTokens, type SessionDatum } from '@lorasmith/contracts';

/** A row: position i of `tokens` predicts `targets[i]`, which is usually the next token. */
export interface SessionRow {
  /** `[n]` */
  tokens: ArrayLike<number>;
  /** `[n]`, or `[n, k]` row by row: k targets of each position, of `cross_entropy` alone. */
  targets: ArrayLike<number>;
  /**
   * `[n]` or `[n, k]` each, as the targets: `weights` of `cross_entropy`; `logprobs` and `advantages` of the other losses;
   * `clip_low_threshold`, `clip_high_threshold` and `sequence_ratio_mask`.
   */
  inputs?: Readonly<Record<string, ArrayLike<number>>>;
}

/** The most rows and bytes of one call; the rows of a longer one are several calls. */
const MAX_ROWS = 1_024;
const MAX_BYTES = 5_000_000;

/**
 * A row of a dataset, as `client.datasetRows` shows it for a base model: each token predicts the next one, and those that a job
 * trains have the weight 1.
 * @throws ProductError `invalid_request` for a row that is not shown whole
 */
export function sessionRowOf({ total, data }: RowTokens): SessionRow {
  if (data.length < total) {
    throw new ProductError('invalid_request', `The row has ${total} tokens, of which ${data.length} are shown.`);
  }
  return {
    tokens: data.slice(0, -1).map(({ id }) => id),
    targets: data.slice(1).map(({ id }) => id),
    inputs: { weights: data.slice(1).map(({ trained }) => (trained ? 1 : 0)) },
  };
}

/** @throws ProductError `invalid_request` where sizes disagree */
export function datumOf({ tokens, targets, inputs = {} }: SessionRow, index: number): SessionDatum {
  const targetsEach = targets.length / tokens.length;
  if (tokens.length === 0 || targetsEach < 1 || !Number.isInteger(targetsEach)) {
    throw refused(index, `has ${tokens.length} tokens and ${targets.length} targets`);
  }
  const fields: Record<string, Float32Array> = {};
  for (const [name, values] of Object.entries(inputs)) {
    if (values.length !== targets.length) {
      throw refused(index, `has ${targets.length} targets, and ${values.length} of ${name}`);
    }
    fields[name] = Float32Array.from(values);
  }
  return { tokens: Int32Array.from(tokens), targets: Int32Array.from(targets), targetsEach, fields };
}

const refused = (index: number, reason: string) =>
  new ProductError('invalid_request', `Row ${index} ${reason}.`, { param: `rows[${index}]` });

/** The rows in as few parts as one call may have. A row that is too long alone is a part, which the service refuses. */
export function partsOf(data: readonly SessionDatum[]): ForwardBackwardOp['data'][] {
  const parts: SessionDatum[][] = [];
  let bytes = 0;
  for (const datum of data) {
    const size = 4 * (datum.tokens.length + datum.targets.length * (1 + Object.keys(datum.fields).length));
    const last = parts.at(-1);
    if (last === undefined || last.length === MAX_ROWS || bytes + size > MAX_BYTES) {
      parts.push([datum]);
      bytes = size;
    } else {
      last.push(datum);
      bytes += size;
    }
  }
  return parts;
}
