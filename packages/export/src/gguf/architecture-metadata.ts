import {
  type DecoderArchitecture,
  hasScores,
  intermediateSizeOf,
  type RopeScaling,
  type RopeSettings,
  rotaryDimOf,
  type ScoredAttention,
} from '@lorasmith/model-folder';
import { checkExperts, expertSettings, expertsIn } from './experts.js';
import { ggufFamily } from './families/gguf-families.js';
import { checkOneRope, type GgufFamily } from './families/gguf-family.js';
import { float, inexpressible, ofLayers, type RefuseIf, type Setting, text, uint } from './metadata-setting.js';
import { mixerHeadSettings } from './mixers.js';

/** A tensor that no weight file has. */
type MadeTensor = [name: string, values: Float32Array];

interface RopeScalingMetadata {
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
function ropeScalingMetadata(
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

/** The settings of a decoder as metadata, and the factors of its rotary frequencies as tensors. */
interface ArchitectureMetadata {
  architecture: string;
  settings: Setting[];
  ropeTensors: MadeTensor[];
}

/**
 * The settings of a decoder as llama.cpp reads them (convert_hf_to_gguf.py, and `load_hparams` of each of its models).
 *
 * If llama.cpp attends to all tokens but the model to a window, the length of a text (`context_length`) is limited to the window:
 * up to there, both are the same.
 *
 * @throws ProductError model_not_supported, for a setting that llama.cpp does not have
 */
export function architectureMetadata(architecture: DecoderArchitecture, model: string): ArchitectureMetadata {
  const { family, norm } = architecture;
  const known = ggufFamily(family);
  if (known === undefined) throw inexpressible(model, `Lorasmith does not write ${family} models as GGUF`);
  checkFamily(architecture, known, model);
  const layers = architecture.layers.map((_, layer) => layer);
  const rope = ropeMetadata(architecture, known, model);
  return {
    architecture: known.architecture,
    settings: [
      ['block_count', uint(architecture.layerCount)],
      ['context_length', uint(contextLength(architecture, known))],
      ['embedding_length', uint(architecture.hiddenSize)],
      ['feed_forward_length', ofLayers(layers.map((layer) => intermediateSizeOf(architecture, layer)))],
      ['attention.head_count', uint(architecture.headCount)],
      [`attention.layer_norm_${norm.kind === 'rms' ? 'rms_' : ''}epsilon`, float(norm.epsilon)],
      ...mixerHeadSettings(architecture, mainLayer(architecture)),
      ...rope.settings,
      ...expertSettings(architecture),
      ...(known.settings?.(architecture) ?? []),
      ['vocab_size', uint(architecture.vocabSize)],
    ],
    ropeTensors: rope.tensors,
  };
}

/** The first layer with full attention that has positions, or else the first that has them; 0 if none has. */
function mainLayer({ ropes, layers }: DecoderArchitecture): number {
  const rotated = layers.flatMap(({ mixer }, layer) =>
    hasScores(mixer) && ropes[mixer.rope] !== null ? [{ layer, window: mixer.window }] : [],
  );
  return (rotated.find(({ window }) => window === null) ?? rotated[0])?.layer ?? 0;
}

/** The settings of attention by scores, of the layers that have it. */
function scoredIn({ layers }: DecoderArchitecture): ScoredAttention[] {
  return layers.map(({ mixer }) => mixer).filter(hasScores);
}

/** The positions of the main layer. A family says by itself what those of layers with a window are. */
function ropeMetadata(architecture: DecoderArchitecture, known: GgufFamily, model: string): RopeScalingMetadata {
  const main = mainLayer(architecture);
  const { mixer } = architecture.layers[main]!;
  const rope: RopeSettings | null = architecture.ropes[hasScores(mixer) ? mixer.rope : 0] ?? null;
  if (rope === null) return { settings: [], tensors: [] };
  const headDim = rotaryDimOf(architecture, main);
  const unsupported = (what: string) =>
    inexpressible(model, `llama.cpp has no ${what} in ${known.architecture} models`);
  const scaling = ropeScalingMetadata(rope, headDim, known, unsupported);
  return {
    settings: [
      ['rope.freq_base', float(rope.theta)],
      ['rope.dimension_count', uint(Math.trunc(headDim * rope.partialRotaryFactor))],
      ...scaling.settings,
    ],
    tensors: scaling.tensors,
  };
}

function contextLength(architecture: DecoderArchitecture, { hasWindows = false }: GgufFamily): number {
  const { maxPositions } = architecture;
  if (hasWindows) return maxPositions;
  const windows = scoredIn(architecture).flatMap(({ window }) => (window === null ? [] : [window]));
  return Math.min(maxPositions, ...windows);
}

function checkFamily(architecture: DecoderArchitecture, known: GgufFamily, model: string): void {
  const { family, mlp, bias, headCount, headDim, hiddenSize, tiedHead } = architecture;
  const { biases, headsFillHidden = false, ownHead = false, experts, check = checkOneRope } = known;
  if (expertsIn(architecture) !== undefined && experts === undefined) {
    throw inexpressible(model, `Lorasmith does not write ${family} models with experts as GGUF`);
  }
  const refuseIf: RefuseIf = (condition, what) => {
    if (condition) throw inexpressible(model, `llama.cpp has no ${what} in ${family} models`);
  };
  const scale = known.scoreScale === undefined ? 1 / Math.sqrt(headDim) : known.scoreScale(architecture);
  const scored = scoredIn(architecture);
  const isOwnScale = scale !== null && scored.some((own) => Math.abs(own.scale / scale - 1) > 1e-6);
  refuseIf(isOwnScale, `scale of the attention scores of its own (it is ${scored[0]?.scale})`);
  const hasOwnWidth = headsFillHidden && headCount * headDim !== hiddenSize;
  refuseIf(hasOwnWidth, `attention heads that together have another size than the hidden state (head_dim ${headDim})`);
  if (biases !== undefined) {
    refuseIf(bias.queryKeyValue && !biases.includes('queryKeyValue'), 'bias of the attention layers (attention_bias)');
    refuseIf(bias.attentionOutput && !biases.includes('attentionOutput'), 'bias of the attention output');
    refuseIf(bias.mlp && !biases.includes('mlp'), 'bias of the MLP');
  }
  refuseIf(ownHead && tiedHead, 'output head that is the embedding (tie_word_embeddings)');
  if (experts !== undefined) checkExperts(architecture, experts, refuseIf);
  check(architecture, refuseIf);
  refuseIf(mlp.activation !== known.activation, mlp.activation);
}
