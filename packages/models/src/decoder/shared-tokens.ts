import {
  type AttentionSettings,
  concat,
  type DeltaSettings,
  dispose,
  type FloatDType,
  gather,
  type KernelSet,
  type SavedAttention,
  scatter,
  scope,
  type Tensor,
  type TokenRows,
  tensorOf,
} from '@lorasmith/tensor';

/** A layer that attends. The same object in every pass, so a cache can know a layer by it. */
interface AttendingLayer {
  readonly settings: AttentionSettings;
  /** The index, among the decoder's rotaries, of the one that turns its queries and keys. */
  readonly rope: number;
  /** The decoder's layer whose keys and values it reads: its own index, or that of an earlier one. */
  readonly keysOf: number;
}

/** Attention itself, between the projections. */
export interface Attend {
  /**
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`
   * @returns output `[tokens, heads × headDim]`; saved is null without `record`
   */
  forward(qkv: Tensor, layer: AttendingLayer, record: boolean): { output: Tensor; saved: SavedAttention | null };
  /** Gradient by qkv. Frees what was saved. */
  backward(gradient: Tensor, saved: SavedAttention, layer: AttendingLayer): Tensor;
}

/** Tokens of the stream that are in as many rows each. */
interface TokensInRows {
  rows: number;
  /** `[tokens × rows]` int32: where in the rows each token is. */
  places: Tensor;
}

/**
 * Rows that share tokens of the stream, as two answers to a prompt share it. What a token is alone is computed once, in the stream; what
 * mixes tokens is computed in each row. Tokens before it are the same in each of these rows, so what it gives is the same, too.
 */
export class SharedTokens {
  readonly #kernels: KernelSet;
  readonly #rowTokens: number;
  /** `[row tokens]` int32: where in the stream each is. */
  readonly #places: Tensor;
  /** `[tokens]` int32: where in the rows each is first. */
  readonly #firsts: Tensor;
  readonly #byRows: readonly TokensInRows[];
  /** `[tokens]` int32: where each is among those of `byRows`, one after the other. */
  readonly #order: Tensor;

  /**
   * @param places `[row tokens]` where in the stream each is
   * @param tokens of the stream
   */
  constructor(kernels: KernelSet, places: Int32Array, tokens: number) {
    this.#kernels = kernels;
    this.#rowTokens = places.length;
    const inRows: number[][] = Array.from({ length: tokens }, () => []);
    for (const [place, token] of places.entries()) inRows[token]!.push(place);
    const byRows = new Map<number, number[]>();
    for (const [token, { length }] of inRows.entries()) {
      const alike = byRows.get(length) ?? [];
      alike.push(token);
      byRows.set(length, alike);
    }
    const order = new Int32Array(tokens);
    let next = 0;
    for (const token of [...byRows.values()].flat()) order[token] = next++;
    this.#places = tensorOf(places, [places.length]);
    this.#firsts = indices(inRows.map((own) => own[0]!));
    this.#byRows = Array.from(byRows, ([rows, own]) => ({
      rows,
      places: indices(own.flatMap((token) => inRows[token]!)),
    }));
    this.#order = tensorOf(order, [tokens]);
  }

  /** @param x `[tokens, width]` @returns `[row tokens, width]` */
  inRows(x: Tensor): Tensor {
    return gather(x, this.#places);
  }

  /** Gradient of {@link inRows}: the sum over the rows of each token, in float32 and in their order, rounded once. */
  inRowsGradient(gradient: Tensor): Tensor {
    return scope(() => {
      const sums = this.#byRows.map(({ rows, places }) =>
        this.#kernels.of(gradient.dtype).gatheredSum(gradient, places, rows),
      );
      return gather(concat(sums, 0), this.#order);
    });
  }

  /** @param x `[row tokens, width]`, alike in all rows that share a token @returns `[tokens, width]` */
  inStream(x: Tensor): Tensor {
    return gather(x, this.#firsts);
  }

  /** Gradient of {@link inStream}: that of a token's first row, for all of them. */
  inStreamGradient(gradient: Tensor): Tensor {
    return scatter(this.#firsts, gradient, this.#rowTokens);
  }
}

function indices(numbers: number[]): Tensor {
  return tensorOf(Int32Array.from(numbers), [numbers.length]);
}

/** Attention of a stream whose rows share tokens. */
export function attendInRows(attend: Attend, shared: SharedTokens): Attend {
  return {
    forward(qkv, layer, record) {
      const ofRows = shared.inRows(qkv);
      const { output, saved } = attend.forward(ofRows, layer, record);
      const ofStream = shared.inStream(output);
      dispose([ofRows, output]);
      return { output: ofStream, saved };
    },
    backward(gradient, saved, layer) {
      const byRows = shared.inStreamGradient(gradient);
      const byQkv = attend.backward(byRows, saved, layer);
      const ofStream = shared.inRowsGradient(byQkv);
      dispose([byRows, byQkv]);
      return ofStream;
    },
  };
}

/** A layer that goes through a row token by token. The same object in every pass, so a memory can know a layer by it. */
export interface RecurrentLayer {
  readonly settings: DeltaSettings;
  /** The tokens that an output of its convolution depends on. */
  readonly taps: number;
  /** The numbers of a token that its convolution reads: queries, keys and values. */
  readonly mixedSize: number;
  readonly computeDtype: FloatDType;
}

/** The numbers that linear attention has after the tokens that it has read, of each row. */
export type RecurrentState = {
  /** `[rows, taps - 1, mixed]` in the model's dtype: the latest numbers that the convolution has read; zeros before the first */
  tail: Tensor;
  /** `[rows, valueHeads, keyHeadDim, valueHeadDim]` float32 */
  state: Tensor;
};

/** The recurrence of linear attention over a stream: each row from its start, or on from where generation has left it. */
export interface Recurrence {
  readonly rows: TokenRows;
  /** The tokens that rows share; null: the rows are the stream. */
  readonly shared: SharedTokens | null;
  /** The memory of generation; null: rows begin with zeros, and nothing is kept of them. */
  readonly memory: RecurrentMemory | null;
}

/** The states of the texts of a step, in their order. */
export interface RecurrentMemory {
  /** @param layer whose states; they are the caller's to free, as all of a scope */
  before(layer: RecurrentLayer): RecurrentState;
  /**
   * @param mixed `[tokens, mixed]`, what the convolution of the layer has read in this step
   * @param state as in {@link RecurrentState}, after the step
   */
  after(layer: RecurrentLayer, mixed: Tensor, state: Tensor): void;
}
