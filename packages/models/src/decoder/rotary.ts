import type { RopeScaling, RopeSettings } from '@lorasmith/model-folder';
import { type RotaryAngles, tensorOf } from '@lorasmith/tensor';

type ScalingOf<Type extends RopeScaling['type']> = Extract<RopeScaling, { type: Type }>;

/** The rotation of a head's pairs of dimensions. */
interface Rotation {
  /** Angle per position of each pair that turns. */
  frequencies: Float64Array;
  /** Cosines and sines are multiplied by it. */
  magnitude: number;
}

/** Dimensions of a head that turn; an odd number counts one up, as in transformers. */
export function rotatedDimensions({ partialRotaryFactor }: RopeSettings, headDim: number): number {
  return 2 * Math.ceil(Math.trunc(headDim * partialRotaryFactor) / 2);
}

/**
 * The rotation of transformers' `ROPE_INIT_FUNCTIONS`.
 * @param span positions of the text; some scalings depend on it
 */
export function ropeRotation(rope: RopeSettings, headDim: number, span: number): Rotation {
  const dimensions = Math.trunc(headDim * rope.partialRotaryFactor);
  const plain = frequenciesOf(rope.theta, dimensions);
  const { scaling } = rope;
  switch (scaling?.type) {
    case undefined:
      return { frequencies: plain, magnitude: 1 };
    case 'linear':
      return { frequencies: plain.map((frequency) => frequency / scaling.factor), magnitude: 1 };
    case 'dynamic':
      return {
        frequencies: frequenciesOf(dynamicTheta(rope.theta, dimensions, scaling, span), dimensions),
        magnitude: 1,
      };
    case 'llama3':
      return { frequencies: plain.map(llama3Frequency(scaling)), magnitude: 1 };
    case 'yarn': {
      const kept = yarnKept(rope.theta, dimensions, scaling);
      const frequencies = plain.map((frequency, i) => {
        return frequency * (kept(i) + (1 - kept(i)) / scaling.factor);
      });
      return { frequencies, magnitude: scaling.attentionFactor };
    }
    case 'proportional': {
      const { pairs, factor } = scaling;
      return { frequencies: plain.slice(0, pairs).map((frequency) => frequency / factor), magnitude: 1 };
    }
    case 'longrope': {
      const factors = span > scaling.originalMaxPositions ? scaling.longFactors : scaling.shortFactors;
      return { frequencies: plain.map((frequency, i) => frequency / factors[i]!), magnitude: scaling.attentionFactor };
    }
  }
}

/** Two spans with the same number have the same rotation. */
export function spanClass({ scaling }: RopeSettings, span: number): number {
  if (scaling?.type === 'dynamic') return Math.max(span, scaling.maxPositions);
  if (scaling?.type === 'longrope') return span > scaling.originalMaxPositions ? 1 : 0;
  return 0;
}

function frequenciesOf(theta: number, dimensions: number): Float64Array {
  return Float64Array.from({ length: Math.ceil(dimensions / 2) }, (_, i) => theta ** (-(2 * i) / dimensions));
}

/** NTK: the base grows so that the slowest pair turns as if positions were stretched, the fastest as before. */
function dynamicTheta(
  theta: number,
  dimensions: number,
  { factor, maxPositions }: ScalingOf<'dynamic'>,
  span: number,
): number {
  const stretch = (factor * Math.max(span, maxPositions)) / maxPositions - (factor - 1);
  return theta * stretch ** (dimensions / (dimensions - 2));
}

/** Wavelengths beyond the original context are stretched by `factor`, short ones kept, those between blended. */
function llama3Frequency(scaling: ScalingOf<'llama3'>): (frequency: number) => number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  return (frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
    if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
    const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  };
}

/** The share of a frequency that is kept: 1 for pairs that turn often within the original context, 0 for slow ones. */
function yarnKept(theta: number, dimensions: number, scaling: ScalingOf<'yarn'>): (pair: number) => number {
  const { originalMaxPositions, betaFast, betaSlow, truncate } = scaling;
  /** The pair, as a real number, that makes `turns` turns. */
  const pairOfTurns = (turns: number) =>
    (dimensions * Math.log(originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const first = pairOfTurns(betaFast);
  const last = pairOfTurns(betaSlow);
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const limit = Math.min(truncate ? Math.ceil(last) : last, dimensions - 1);
  const high = limit === low ? limit + 0.001 : limit;
  return (pair) => 1 - Math.min(1, Math.max(0, (pair - low) / (high - low)));
}

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
   * True if a text that grows from `before` to `after` tokens is read again from its start: longrope turns all positions by
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
