import { concat, dispose, gather, type KernelSet, scatter, scope, type Tensor, tensorOf } from '@lorasmith/tensor';
import type { Attend } from './attend.js';

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
