import type { DecoderArchitecture, RopeSettings } from '@lorasmith/model-folder';
import { add, cast, multiply, roll, scope, type Tensor, tensorOf } from '@lorasmith/tensor';

/**
 * Angle per position of each pair of dimensions.
 * @returns `[headDim / 2]`
 */
export function rotaryFrequencies(rope: RopeSettings, headDim: number): Float64Array {
  const frequencies = Float64Array.from({ length: headDim / 2 }, (_, i) => rope.theta ** (-(2 * i) / headDim));
  return rope.scaling === null ? frequencies : frequencies.map(llama3Scaling(rope.scaling));
}

/** Llama 3.1's scaling: wavelengths beyond the original context are stretched by `factor`, short ones kept, those between blended. */
function llama3Scaling(scaling: NonNullable<RopeSettings['scaling']>): (frequency: number) => number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  return (frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
    if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
    const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  };
}

/** Tables of one length of positions. */
export interface RotaryTable {
  /** `[positions, headDim]` */
  cosine: Tensor;
  /** `[positions, headDim]`, negative in the first half: the sign of the rotated half is in the table. */
  sine: Tensor;
  /** The sine of the opposite rotation. */
  inverseSine: Tensor;
}

/** Makes rotation tables; the frequencies are computed once. */
export class Rotary {
  readonly #frequencies: Float64Array;
  readonly #headDim: number;

  constructor(architecture: DecoderArchitecture) {
    this.#headDim = architecture.headDim;
    this.#frequencies = rotaryFrequencies(architecture.rope, architecture.headDim);
  }

  /** Cosine and sine of positions 0 … count - 1, `[count, headDim / 2]` each. */
  halfTable(count: number): { cosine: Tensor; sine: Tensor } {
    const half = this.#headDim / 2;
    const cosine = new Float32Array(count * half);
    const sine = new Float32Array(count * half);
    for (let position = 0; position < count; position++) {
      for (let i = 0; i < half; i++) {
        const angle = this.#angle(position, i);
        cosine[position * half + i] = Math.cos(angle);
        sine[position * half + i] = Math.sin(angle);
      }
    }
    return { cosine: tensorOf(cosine, [count, half]), sine: tensorOf(sine, [count, half]) };
  }

  /** Rounded to float32 like PyTorch's, before cos and sin. */
  #angle(position: number, i: number): number {
    return Math.fround(position * Math.fround(this.#frequencies[i]!));
  }

  /** Tables for these positions. */
  table(positions: ArrayLike<number>): RotaryTable {
    const half = this.#headDim / 2;
    const cosine = new Float32Array(positions.length * this.#headDim);
    const sine = new Float32Array(cosine.length);
    const inverseSine = new Float32Array(cosine.length);
    for (let p = 0; p < positions.length; p++) {
      for (let i = 0; i < half; i++) {
        const angle = this.#angle(positions[p]!, i);
        const first = p * this.#headDim + i;
        cosine[first] = cosine[first + half] = Math.cos(angle);
        sine[first + half] = inverseSine[first] = Math.sin(angle);
        sine[first] = inverseSine[first + half] = -Math.sin(angle);
      }
    }
    const shape = [positions.length, this.#headDim];
    return { cosine: tensorOf(cosine, shape), sine: tensorOf(sine, shape), inverseSine: tensorOf(inverseSine, shape) };
  }
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
