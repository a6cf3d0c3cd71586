import {
  type DecoderArchitecture,
  hasScores,
  intermediateSizeOf,
  type RopeSettings,
  rotaryDimOf,
  type ScoredAttention,
} from '@lorasmith/model-folder';
import { checkExperts, expertSettings, expertsIn } from './experts.js';
import { ggufFamily } from './families/gguf-families.js';
import { checkOneRope, type GgufFamily } from './families/gguf-family.js';
import { float, inexpressible, ofLayers, type RefuseIf, type Setting, uint } from './metadata-setting.js';
import { mixerHeadSettings } from './mixers.js';
import { type MadeTensor, type RopeScalingMetadata, ropeScalingMetadata } from './rope-scaling.js';

/** The settings of a decoder as metadata, and the factors of its rotary frequencies as tensors. */
export interface ArchitectureMetadata {
  architecture: string;
  settings: Setting[];
  ropeTensors: MadeTensor[];
}

/**
 * The settings of a decoder as llama.cpp reads them (convert_hf_to_gguf.py, and `load_hparams` of each of its models).
 *
 * Where llama.cpp attends to all tokens but the model to a window, the length of a text (`context_length`) is limited to the window:
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
