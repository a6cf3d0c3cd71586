import type { RopeSettings } from '@lorasmith/model-folder';
import { type RotaryAngles, tensorOf } from '@lorasmith/tensor';
import { type Rotation, ropeRotation, spanClass } from './rope-frequencies.js';

const NO_ROTATION: Rotation = { frequencies: new Float64Array(0), magnitude: 1 };

/**
 * Makes rotation tables. Pairs of dimensions beyond those that rotate turn by no angle; without rope none does.
 *
 * A span is the number of positions that a rope depending on the length is made for: that of a row, whatever lies beside it.
 */
export class Rotary {
  readonly #rope: RopeSettings | null;
  readonly #headDim: number;
  readonly #ownDim: number;
  #latest: { class: number; rotation: Rotation } | null = null;

  /**
   * @param rope null: no rotation
   * @param ownDim the dimensions of a head that the settings are of, where it has others beside them
   */
  constructor(rope: RopeSettings | null, headDim: number, ownDim: number = headDim) {
    this.#rope = rope;
    this.#headDim = headDim;
    this.#ownDim = ownDim;
  }

  /** Spans of one class have the same tables. */
  spanClass(span: number): number {
    return this.#rope === null ? 0 : spanClass(this.#rope, span);
  }

  /**
   * @param positions which; a number n is 0 … n - 1
   * @param span default: up to the last of them
   */
  angles(positions: number | Int32Array, span?: number): RotaryAngles {
    const all = typeof positions === 'number' ? Int32Array.from({ length: positions }, (_, i) => i) : positions;
    return this.anglesOfTexts([{ positions: all, span: span ?? lastOf(all) + 1 }]);
  }

  /**
   * The angles of texts one after the other.
   * @returns `[all positions, headDim / 2]`
   */
  anglesOfTexts(texts: readonly { positions: Int32Array; span: number }[]): RotaryAngles {
    const half = this.#headDim / 2;
    const count = texts.reduce((sum, { positions }) => sum + positions.length, 0);
    const cosine = new Float32Array(count * half);
    const sine = new Float32Array(count * half);
    let at = 0;
    for (const { positions, span } of texts) {
      const rotation = this.#rotation(span);
      for (const position of positions) {
        for (let i = 0; i < half; i++, at++) [cosine[at], sine[at]] = turned(rotation, position, i);
      }
    }
    return { cosine: tensorOf(cosine, [count, half]), sine: tensorOf(sine, [count, half]) };
  }

  /**
   * Whether a text that grows from `before` to `after` tokens is read again from its start: longrope turns all positions by
   * other angles once a text is longer than the original context, as transformers does for Phi-3. With dynamic scaling, the
   * keys of earlier tokens stay as they are, as in transformers.
   */
  isReadAgain(before: number, after: number): boolean {
    return this.#rope?.scaling?.type === 'longrope' && this.spanClass(before) !== this.spanClass(after);
  }

  #rotation(span: number): Rotation {
    if (this.#rope === null) return NO_ROTATION;
    const own = this.spanClass(span);
    if (this.#latest?.class !== own) {
      this.#latest = { class: own, rotation: ropeRotation(this.#rope, this.#ownDim, span) };
    }
    return this.#latest.rotation;
  }
}

function lastOf(positions: Int32Array): number {
  return positions.reduce((last, position) => Math.max(last, position), 0);
}

/** Cosine and sine of a pair at a position. The angle is rounded to float32 like PyTorch's, before cos and sin. */
function turned({ frequencies, magnitude }: Rotation, position: number, pair: number): [cosine: number, sine: number] {
  const frequency = frequencies[pair];
  if (frequency === undefined) return [1, 0];
  const angle = Math.fround(position * Math.fround(frequency));
  return [magnitude * Math.cos(angle), magnitude * Math.sin(angle)];
}
