import type { DecoderArchitecture, RopeSettings } from '@lorasmith/model-folder';
import { add, cast, multiply, roll, scope, type Tensor, tensorOf } from '@lorasmith/tensor';
import { type Rotation, ropeRotation, spanClass } from './rope-frequencies.js';

/** Tables of one length of positions. */
export interface RotaryTable {
  /** `[positions, headDim]` */
  cosine: Tensor;
  /** `[positions, headDim]`, negative in the first half: the sign of the rotated half is in the table. */
  sine: Tensor;
  /** The sine of the opposite rotation. */
  inverseSine: Tensor;
}

const NO_ROTATION: Rotation = { frequencies: new Float64Array(0), magnitude: 1 };

/**
 * Makes rotation tables. Pairs of dimensions beyond those that rotate turn by no angle; without rope none does.
 *
 * A span is the number of positions that a rope depending on the length is made for: of the longest row of a batch, as in
 * transformers, and so the same for all its rows.
 */
export class Rotary {
  readonly #rope: RopeSettings | null;
  readonly #headDim: number;
  #latest: { class: number; rotation: Rotation } | null = null;

  constructor({ rope, headDim }: Pick<DecoderArchitecture, 'rope' | 'headDim'>) {
    this.#rope = rope;
    this.#headDim = headDim;
  }

  /** Spans of one class have the same tables. */
  spanClass(span: number): number {
    return this.#rope === null ? 0 : spanClass(this.#rope, span);
  }

  /** Cosine and sine of positions 0 … count - 1, `[count, headDim / 2]` each. */
  halfTable(count: number, span: number = count): { cosine: Tensor; sine: Tensor } {
    const half = this.#headDim / 2;
    const rotation = this.#rotation(span);
    const cosine = new Float32Array(count * half);
    const sine = new Float32Array(count * half);
    for (let position = 0; position < count; position++) {
      for (let i = 0; i < half; i++) {
        [cosine[position * half + i], sine[position * half + i]] = turned(rotation, position, i);
      }
    }
    return { cosine: tensorOf(cosine, [count, half]), sine: tensorOf(sine, [count, half]) };
  }

  /** Tables for these positions. @param span default: up to the last of them */
  table(positions: ArrayLike<number>, span: number = lastOf(positions) + 1): RotaryTable {
    const half = this.#headDim / 2;
    const rotation = this.#rotation(span);
    const cosine = new Float32Array(positions.length * this.#headDim);
    const sine = new Float32Array(cosine.length);
    const inverseSine = new Float32Array(cosine.length);
    for (let p = 0; p < positions.length; p++) {
      for (let i = 0; i < half; i++) {
        const [across, up] = turned(rotation, positions[p]!, i);
        const first = p * this.#headDim + i;
        cosine[first] = cosine[first + half] = across;
        sine[first + half] = inverseSine[first] = up;
        sine[first] = inverseSine[first + half] = -up;
      }
    }
    const shape = [positions.length, this.#headDim];
    return { cosine: tensorOf(cosine, shape), sine: tensorOf(sine, shape), inverseSine: tensorOf(inverseSine, shape) };
  }

  #rotation(span: number): Rotation {
    if (this.#rope === null) return NO_ROTATION;
    const own = this.spanClass(span);
    if (this.#latest?.class !== own) {
      this.#latest = { class: own, rotation: ropeRotation(this.#rope, this.#headDim, span) };
    }
    return this.#latest.rotation;
  }
}

function lastOf(positions: ArrayLike<number>): number {
  let last = 0;
  for (let i = 0; i < positions.length; i++) last = Math.max(last, positions[i]!);
  return last;
}

/** Cosine and sine of a pair at a position. The angle is rounded to float32 like PyTorch's, before cos and sin. */
function turned({ frequencies, magnitude }: Rotation, position: number, pair: number): [cosine: number, sine: number] {
  const frequency = frequencies[pair];
  if (frequency === undefined) return [1, 0];
  const angle = Math.fround(position * Math.fround(frequency));
  return [magnitude * Math.cos(angle), magnitude * Math.sin(angle)];
}

/**
 * Rotates pairs of dimensions (i, i + headDim / 2) by their position's angle, in float32.
 * @param x `[…, positions, headDim]`
 * @param direction `inverse` is the gradient: a rotation's transpose
 * @returns the same shape and dtype
 */
export function rotate(x: Tensor, table: RotaryTable, direction: 'forward' | 'inverse'): Tensor {
  return scope(() => {
    const exact = cast(x, 'float32');
    const sine = direction === 'forward' ? table.sine : table.inverseSine;
    const halvesSwapped = roll(exact, exact.shape.at(-1)! / 2);
    const dtype = x.dtype;
    return cast(add(multiply(exact, table.cosine), multiply(halvesSwapped, sine)), dtype);
  });
}
