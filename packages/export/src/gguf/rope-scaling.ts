import type { RopeScaling, RopeSettings } from '@lorasmith/model-folder';
import type { GgufFamily } from './families/gguf-family.js';
import { float, type Setting, text, uint } from './metadata-setting.js';

/** A tensor that no weight file has. */
export type MadeTensor = [name: string, values: Float32Array];

export interface RopeScalingMetadata {
  settings: Setting[];
  /** The factors of frequencies. */
  tensors: MadeTensor[];
}

/**
 * The scaling of rotary positions as llama.cpp reads it.
 *
 * @param family what its architecture reads
 * @param unsupported makes the error for a scaling that llama.cpp does not have in the architecture
 */
export function ropeScalingMetadata(
  { scaling, theta }: RopeSettings,
  headDim: number,
  family: GgufFamily,
  unsupported: (what: string) => Error,
): RopeScalingMetadata {
  if (scaling === null) return { settings: [], tensors: [] };
  const { ropeFactors = [] } = family;
  const { type } = scaling;
  const isFactors = type === 'llama3' || type === 'longrope' || type === 'proportional';
  if (isFactors && !ropeFactors.includes(type)) throw unsupported(`RoPE scaling of the type ${type}`);
  switch (type) {
    case 'linear':
      return {
        settings: [
          ['rope.scaling.type', text('linear')],
          ['rope.scaling.factor', float(scaling.factor)],
        ],
        tensors: [],
      };
    case 'llama3':
      return { settings: [], tensors: [['rope_freqs.weight', llama3Factors(scaling, theta, headDim)]] };
    case 'proportional':
      return { settings: [], tensors: [['rope_freqs.weight', proportionalFactors(scaling, headDim)]] };
    case 'yarn':
      return { settings: yarnSettings(scaling, family, unsupported), tensors: [] };
    case 'longrope':
      return {
        settings: [
          ['rope.scaling.type', text('longrope')],
          ['rope.scaling.original_context_length', uint(scaling.originalMaxPositions)],
          ['rope.scaling.attn_factor', float(scaling.attentionFactor)],
        ],
        tensors: [
          ['rope_factors_long.weight', Float32Array.from(scaling.longFactors)],
          ['rope_factors_short.weight', Float32Array.from(scaling.shortFactors)],
        ],
      };
    case 'dynamic':
      throw unsupported('RoPE scaling of the type dynamic, which depends on the length of the text');
  }
}

function yarnSettings(
  scaling: Extract<RopeScaling, { type: 'yarn' }>,
  { roundsYarn = false, yarnKeepsLength = false }: GgufFamily,
  unsupported: (what: string) => Error,
): Setting[] {
  if (!scaling.truncate && !roundsYarn) throw unsupported('YaRN scaling with truncate: false');
  if (scaling.betaFast !== 32 || scaling.betaSlow !== 1) {
    throw unsupported(`YaRN scaling with beta_fast ${scaling.betaFast} and beta_slow ${scaling.betaSlow}`);
  }
  // llama.cpp makes queries and keys longer by what is usual for the factor, unless the family says otherwise.
  const usual = yarnKeepsLength || scaling.factor <= 1 ? 1 : 0.1 * Math.log(scaling.factor) + 1;
  const ofUsual = scaling.attentionFactor / usual;
  return [
    ['rope.scaling.type', text('yarn')],
    ['rope.scaling.factor', float(scaling.factor)],
    ['rope.scaling.original_context_length', uint(scaling.originalMaxPositions)],
    ...(Math.abs(ofUsual - 1) > 1e-6 ? [['rope.scaling.attn_factor', float(ofUsual)] as Setting] : []),
  ];
}

/** The divisor of each frequency, computed as in convert_hf_to_gguf.py: every step in float32. */
function llama3Factors(
  scaling: Extract<RopeScaling, { type: 'llama3' }>,
  theta: number,
  headDim: number,
): Float32Array {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  const { fround } = Math;
  return Float32Array.from({ length: headDim / 2 }, (_, pair) => {
    const frequency = fround(1 / fround(theta ** fround((2 * pair) / headDim)));
    const wavelength = fround((2 * Math.PI) / frequency);
    if (wavelength < originalMaxPositions / highFreqFactor) return 1;
    if (wavelength > originalMaxPositions / lowFreqFactor) return factor;
    const rotations = fround(fround(originalMaxPositions / wavelength) - lowFreqFactor);
    const smooth = fround(rotations / (highFreqFactor - lowFreqFactor));
    return 1 / fround(fround(fround(1 - smooth) / factor) + smooth);
  });
}

/** A divisor by which a pair turns by no angle in float32 (`Gemma4Model` in llama.cpp's conversion/gemma.py). */
const UNTURNED = 1e30;

/** The divisor of each frequency: that of all angles for the pairs that turn. */
function proportionalFactors(
  { pairs, factor }: Extract<RopeScaling, { type: 'proportional' }>,
  headDim: number,
): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, pair) => (pair < pairs ? factor : UNTURNED));
}
