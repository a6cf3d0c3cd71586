import type { LatentAttention } from '@lorasmith/model-folder';
import {
  add,
  cast,
  concat,
  type FloatDType,
  fill,
  multiply,
  pad,
  reshape,
  scope,
  slice,
  split,
  type Tensor,
} from '@lorasmith/tensor';
import { swapped } from './query-key-step.js';

/** The projections of latent attention. Of a head, its plain numbers are before those that positions turn, or before its value. */
export interface LatentParts {
  /** `[tokens, heads × (plainDim + rotaryDim)]` */
  query: Tensor;
  /** `[tokens, heads × (plainDim + valueDim)]` */
  keyValue: Tensor;
  /** `[tokens, rotaryDim]`: the numbers of the key that positions turn, the same for all heads */
  turnedKey: Tensor;
}

/**
 * Lays out what latent attention projects as attention takes it, with heads of one size, and back.
 *
 * Attention turns the pairs of dimensions (i, i + headDim / 2), the first pairs by the position and the others by no angle. So a query
 * or key is `[a, c₁, b, c₂]` with a and b the first and second of each pair that turns, and c₁ and c₂ the halves of the plain numbers,
 * with zeros behind them up to the size of a head. A value has zeros behind it: what attention gives there is 0 and left out.
 */
export class LatentHeads {
  readonly #own: Pick<LatentAttention, 'plainDim' | 'rotaryDim' | 'valueDim'>;
  readonly #heads: number;
  readonly #headDim: number;
  readonly #interleaved: boolean;

  /** @param shape `interleaved`: whether the neighbours of those that turn are pairs */
  constructor(
    own: Pick<LatentAttention, 'plainDim' | 'rotaryDim' | 'valueDim'>,
    { heads, headDim, interleaved }: { heads: number; headDim: number; interleaved: boolean },
  ) {
    this.#own = own;
    this.#heads = heads;
    this.#headDim = headDim;
    this.#interleaved = interleaved;
  }

  /** @returns `[tokens, 3 × heads × headDim]`: queries, keys, values */
  joined({ query, keyValue, turnedKey }: LatentParts): Tensor {
    const { plainDim, rotaryDim, valueDim } = this.#own;
    return scope(() => {
      const tokens = query.shape[0]!;
      const ofHeads = (make: () => Tensor) => scope(() => reshape(make(), [tokens, -1]));
      const queries = ofHeads(() => {
        const [plain, turned] = split(reshape(query, [-1, plainDim + rotaryDim]), [plainDim, rotaryDim], 1);
        return this.#laid(plain!, this.#pairs(turned!));
      });
      const [plain, value] = split(reshape(keyValue, [-1, plainDim + valueDim]), [plainDim, valueDim], 1);
      const keys = ofHeads(() => {
        const turned = this.#pairs(turnedKey).map((numbers) => inEachHead(numbers, this.#heads));
        return this.#laid(plain!, turned);
      });
      return concat([queries, keys, ofHeads(() => widened(value!, this.#headDim))], 1);
    });
  }

  /** Gradient of {@link joined}. */
  parted(gradient: Tensor): LatentParts {
    const width = this.#heads * this.#headDim;
    return scope(() => {
      const tokens = gradient.shape[0]!;
      /** The heads of a third of the gradient, `[tokens × heads, headDim]`. */
      const ofHeads = (third: number) => reshape(slice(gradient, [0, third * width], [-1, width]), [-1, this.#headDim]);
      const query = scope(() => {
        const { plain, turned } = this.#taken(ofHeads(0));
        return reshape(concat([plain, this.#unpaired(turned)], 1), [tokens, -1]);
      });
      const { plain, turned } = scope(() => this.#taken(ofHeads(1)));
      const turnedKey = scope(() => {
        const summed = turned.map((numbers) => sumOfHeads(reshape(numbers, [tokens, -1]), this.#heads));
        return this.#unpaired(summed);
      });
      const keyValue = scope(() => {
        const value = narrowed(ofHeads(2), this.#own.valueDim);
        return reshape(concat([plain, value], 1), [tokens, -1]);
      });
      return { query, keyValue, turnedKey };
    });
  }

  /**
   * The numbers that attention gives, without those in the place of zeros.
   * @param attended `[tokens, heads × headDim]`
   * @returns `[tokens, heads × valueDim]`, in the same memory where there are none
   */
  values(attended: Tensor): Tensor {
    return scope(() => {
      const values = narrowed(reshape(attended, [-1, this.#headDim]), this.#own.valueDim);
      return reshape(values, [attended.shape[0]!, -1]);
    });
  }

  /** Gradient of {@link values}. */
  widenedValues(gradient: Tensor): Tensor {
    return scope(() => {
      const heads = widened(reshape(gradient, [-1, this.#own.valueDim]), this.#headDim);
      return reshape(heads, [gradient.shape[0]!, -1]);
    });
  }

  /** `[n, plainDim]` and the two halves of what turns → `[n, headDim]` */
  #laid(plain: Tensor, [a, b]: Tensor[]): Tensor {
    const half = (this.#headDim - this.#own.rotaryDim) / 2;
    const [first, second] = split(widened(plain, 2 * half), [half, half], 1);
    return concat([a!, first!, b!, second!], 1);
  }

  /** The reverse of {@link #laid}. */
  #taken(heads: Tensor): { plain: Tensor; turned: Tensor[] } {
    const { plainDim, rotaryDim } = this.#own;
    const half = (this.#headDim - rotaryDim) / 2;
    const [a, first, b, second] = split(heads, [rotaryDim / 2, half, rotaryDim / 2, half], 1);
    return { plain: narrowed(concat([first!, second!], 1), plainDim), turned: [a!, b!] };
  }

  /** The first and the second of each pair, `[n, rotaryDim / 2]` each. */
  #pairs(turned: Tensor): Tensor[] {
    const half = this.#own.rotaryDim / 2;
    return split(this.#interleaved ? swapped(turned, [half, 2]) : turned, [half, half], 1);
  }

  /** The reverse of {@link #pairs}. */
  #unpaired(halves: Tensor[]): Tensor {
    const both = concat(halves, 1);
    return this.#interleaved ? swapped(both, [2, this.#own.rotaryDim / 2]) : both;
  }
}

/** `[tokens, size]` → `[tokens × heads, size]`: each row as many times */
function inEachHead(x: Tensor, heads: number): Tensor {
  const [tokens, size] = x.shape as [number, number];
  const repeated = multiply(reshape(x, [tokens, 1, size]), fill([1, heads, 1], 1, x.dtype)); // [tokens, heads, size]
  return reshape(repeated, [-1, size]);
}

/** Zeros behind the numbers of each row. */
function widened(x: Tensor, width: number): Tensor {
  const missing = width - x.shape[1]!;
  return missing === 0
    ? x
    : pad(x, [
        [0, 0],
        [0, missing],
      ]);
}

/** The first numbers of each row. */
function narrowed(x: Tensor, width: number): Tensor {
  const beyond = x.shape[1]! - width;
  return beyond === 0 ? x : split(x, [width, beyond], 1)[0]!;
}

/**
 * The sum of the heads of each token, in float32 and in the same order for every token.
 * @param x `[tokens, heads × size]`
 * @returns `[tokens, size]` in the dtype of x
 */
function sumOfHeads(x: Tensor, heads: number): Tensor {
  const size = x.shape[1]! / heads;
  const summed = (all: Tensor, count: number): Tensor => {
    if (count === 1) return all;
    const half = Math.floor(count / 2);
    const sizes = [half * size, half * size];
    if (count % 2 === 0) {
      const [some, others] = split(all, sizes, 1);
      return summed(add(some!, others!), half);
    }
    const [some, others, last] = split(all, [...sizes, size], 1);
    return add(summed(add(some!, others!), half), last!);
  };
  return cast(summed(cast(x, 'float32'), heads), x.dtype as FloatDType);
}
