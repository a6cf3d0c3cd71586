import type { RopeScaling, RopeSettings } from '@lorasmith/model-folder';

type ScalingOf<Type extends RopeScaling['type']> = Extract<RopeScaling, { type: Type }>;

/** How the pairs of dimensions of a head turn. */
export interface Rotation {
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
