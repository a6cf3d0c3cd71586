import type { DecoderArchitecture, DecoderFamily, RopeScaling, RopeSettings } from '@lorasmith/model-folder';
import { checkWindows, mainRope, windowSettings } from './attention-windows.js';
import { GGUF_FAMILIES, type GgufFamily } from './gguf-families.js';
import type { MetadataValue } from './gguf-layout.js';
import { checkLinearAttention, linearAttentionSettings } from './linear-attention.js';
import { inexpressible } from './refuse.js';

/** Layers of the releases of Gemma (27B) whose scores llama.cpp scales by the hidden size for each head. */
const GEMMA_27B_LAYERS: Readonly<Partial<Record<DecoderFamily, number>>> = { gemma2: 46, gemma3_text: 62 };

/** The last of every four layers has no positions in llama.cpp's smollm3. */
const SMOLLM3_PERIOD = 4;

/** The settings of a decoder as metadata, and the factors of its rotary frequencies as tensors. */
export interface ArchitectureMetadata {
  architecture: string;
  /** Keys without the architecture in front, for instance `block_count`. */
  settings: [key: string, value: MetadataValue][];
  /** Tensors that no weight file has, by name. */
  ropeTensors: [name: string, values: Float32Array][];
}

const uint = (value: number): MetadataValue => ({ type: 'uint32', value });
const float = (value: number): MetadataValue => ({ type: 'float32', value });
const text = (value: string): MetadataValue => ({ type: 'string', value });

/**
 * The settings of a decoder as llama.cpp reads them (convert_hf_to_gguf.py, and `load_hparams` of each of its models).
 *
 * Where llama.cpp attends to all tokens but the model to a window, the length of a text (`context_length`) is limited to the window:
 * up to there, both are the same.
 *
 * @throws ProductError model_not_supported, for a setting that llama.cpp does not have
 */
export function architectureMetadata(architecture: DecoderArchitecture, model: string): ArchitectureMetadata {
  const { family, headCount, keyValueHeadCount, headDim, norm, mlp, attention } = architecture;
  const known = GGUF_FAMILIES[family];
  if (known === undefined) throw inexpressible(model, `Lorasmith does not write ${family} models as GGUF`);
  checkFamily(architecture, known, model);
  const settings: ArchitectureMetadata['settings'] = [
    ['block_count', uint(architecture.layerCount)],
    ['context_length', uint(contextLength(architecture))],
    ['embedding_length', uint(architecture.hiddenSize)],
    ['feed_forward_length', uint(architecture.intermediateSize)],
    ['attention.head_count', uint(headCount)],
  ];
  if (mlp.activation !== known.activation) {
    throw inexpressible(model, `llama.cpp has no ${architecture.mlp.activation} in ${family} models`);
  }
  const result: ArchitectureMetadata = { architecture: known.architecture, settings, ropeTensors: [] };
  if (family !== 'gpt2') settings.push(['attention.head_count_kv', uint(keyValueHeadCount)]);
  settings.push([`attention.layer_norm_${norm.kind === 'rms' ? 'rms_' : ''}epsilon`, float(norm.epsilon)]);
  if (family !== 'gpt2') {
    settings.push(['attention.key_length', uint(headDim)], ['attention.value_length', uint(headDim)]);
  }
  const rope = mainRope(architecture);
  if (rope !== null) {
    settings.push(['rope.freq_base', float(rope.theta)]);
    settings.push(['rope.dimension_count', uint(Math.trunc(headDim * rope.partialRotaryFactor))]);
    if (rope.scaling !== null) addScaling(result, rope.scaling, { rope, headDim, model });
    // llama.cpp would otherwise assume a linear one.
    else if (family === 'nemotron') settings.push(['rope.scaling.type', text('none')]);
  }
  if (known.ropeIsChoice) settings.push(['rope.scaling.finetuned', { type: 'bool', value: rope !== null }]);
  if (known.hasWindows) settings.push(...windowSettings(architecture));
  settings.push(...linearAttentionSettings(architecture, rope));
  if (family === 'gemma2') {
    settings.push(['attn_logit_softcapping', float(attention.softcap!)]);
    settings.push(['final_logit_softcapping', float(architecture.logitSoftcap!)]);
    settings.push(['attention.sliding_window', uint(attention.layers[0]!.window!)]);
  }
  if (family === 'gemma3_text' && architecture.logitSoftcap !== null) {
    settings.push(['final_logit_softcapping', float(architecture.logitSoftcap)]);
  }
  if (known.hasFactors) {
    settings.push(['embedding_scale', float(architecture.embeddingScale)]);
    settings.push(['residual_scale', float(architecture.branchScale)]);
    settings.push(['logit_scale', float(1 / architecture.logitScale)]);
    settings.push(['attention.scale', float(attention.layers[0]!.scale)]);
  }
  if (attention.queryGrowth !== null) {
    settings.push(['attention.temperature_scale', float(attention.queryGrowth.beta)]);
  }
  // 0: llama.cpp would otherwise assume the window of an early release.
  if (family === 'phi3') settings.push(['attention.sliding_window', uint(0)]);
  settings.push(['vocab_size', uint(architecture.vocabSize)]);
  return result;
}

function contextLength({ family, maxPositions, attention }: DecoderArchitecture): number {
  if (family === 'gemma2' || GGUF_FAMILIES[family]?.hasWindows) return maxPositions;
  const windows = attention.layers.flatMap(({ window }) => (window === null ? [] : [window]));
  return Math.min(maxPositions, ...windows);
}

function checkFamily(architecture: DecoderArchitecture, known: GgufFamily, model: string): void {
  const { family, attention, bias, headCount, headDim, hiddenSize, layerCount } = architecture;
  const refuseIf = (condition: boolean, what: string) => {
    if (condition) throw inexpressible(model, `llama.cpp has no ${what} in ${family} models`);
  };
  const scaleByHidden = layerCount === GEMMA_27B_LAYERS[family];
  const scale = 1 / Math.sqrt(scaleByHidden ? hiddenSize / headCount : headDim);
  const isOwnScale = !known.hasFactors && attention.layers.some((layer) => Math.abs(layer.scale / scale - 1) > 1e-6);
  refuseIf(isOwnScale, `scale of the attention scores of its own (it is ${attention.layers[0]!.scale})`);
  const hasOwnWidth = known.headsFillHidden === true && headCount * headDim !== hiddenSize;
  refuseIf(hasOwnWidth, `attention heads that together have another size than the hidden state (head_dim ${headDim})`);
  const { biases } = known;
  if (biases !== undefined) {
    refuseIf(bias.queryKeyValue && !biases.includes('queryKeyValue'), 'bias of the attention layers (attention_bias)');
    refuseIf(bias.attentionOutput && !biases.includes('attentionOutput'), 'bias of the attention output');
    refuseIf(bias.mlp && !biases.includes('mlp'), 'bias of the MLP');
  }
  refuseIf(known.ownHead === true && architecture.tiedHead, 'output head that is the embedding (tie_word_embeddings)');
  if (known.hasLinearAttention) checkLinearAttention(architecture, mainRope(architecture), refuseIf);
  if (known.hasWindows) checkWindows(architecture, refuseIf);
  else checkPositions(architecture, refuseIf);
  refuseIf(family === 'gemma3_text' && attention.softcap !== null, 'attn_logit_softcapping');
  if (family === 'gemma2') {
    refuseIf(!architecture.tiedHead, 'output head of its own (tie_word_embeddings false)');
    refuseIf(attention.softcap === null, 'attention without attn_logit_softcapping');
    refuseIf(architecture.logitSoftcap === null, 'logits without final_logit_softcapping');
    const window = attention.layers[0]!.window;
    const alternates = attention.layers.every((layer, index) => layer.window === (index % 2 === 0 ? window : null));
    refuseIf(
      window === null || !alternates,
      'attention windows but in every second layer, from the first (layer_types)',
    );
  }
}

/** Checks that the layers have positions that have them in llama.cpp. */
function checkPositions(
  { family, attention, ropes }: DecoderArchitecture,
  refuseIf: (condition: boolean, what: string) => void,
): void {
  if (family === 'smollm3') {
    const isLast = (index: number) => (index + 1) % SMOLLM3_PERIOD === 0;
    const isUsual = attention.layers.every(({ rope }, index) => (ropes[rope] === null) === isLast(index));
    refuseIf(!isUsual, `positions but in ${SMOLLM3_PERIOD - 1} of ${SMOLLM3_PERIOD} layers (no_rope_layers)`);
    return;
  }
  if (family === 'ministral3') {
    const scaling = ropes[0]?.scaling;
    refuseIf(scaling?.type !== 'yarn' || scaling.attentionFactor !== 1, 'RoPE scaling but YaRN with the factor 1');
  }
  if (family === 'nemotron') {
    const type = ropes[0]?.scaling?.type;
    refuseIf(type !== undefined && type !== 'linear', 'RoPE scaling but of the type linear');
  }
  if (family === 'gpt2') return;
  const isUsual = ropes[0] !== null || GGUF_FAMILIES[family]?.ropeIsChoice === true;
  refuseIf(ropes.length !== 1 || !isUsual, 'layers without positions');
}

/** The architectures that read factors of rotary frequencies. */
const LLAMA3_ROPES = ['llama', 'arcee', 'exaone4'];

/** The types of scaling that llama.cpp computes, by architecture. */
function addScaling(
  { settings, ropeTensors, architecture: name }: ArchitectureMetadata,
  scaling: RopeScaling,
  { rope, headDim, model }: { rope: RopeSettings; headDim: number; model: string },
): void {
  const unsupported = (what: string) => inexpressible(model, `llama.cpp has no ${what} in ${name} models`);
  switch (scaling.type) {
    case 'linear':
      settings.push(['rope.scaling.type', text('linear')], ['rope.scaling.factor', float(scaling.factor)]);
      return;
    case 'llama3':
      if (!LLAMA3_ROPES.includes(name)) throw unsupported('RoPE scaling of the type llama3');
      ropeTensors.push(['rope_freqs.weight', llama3Factors(scaling, rope.theta, headDim)]);
      return;
    case 'yarn': {
      if (!scaling.truncate) throw unsupported('YaRN scaling with truncate: false');
      if (scaling.betaFast !== 32 || scaling.betaSlow !== 1) {
        throw unsupported(`YaRN scaling with beta_fast ${scaling.betaFast} and beta_slow ${scaling.betaSlow}`);
      }
      const usual = scaling.factor <= 1 ? 1 : 0.1 * Math.log(scaling.factor) + 1;
      settings.push(
        ['rope.scaling.type', text('yarn')],
        ['rope.scaling.factor', float(scaling.factor)],
        ['rope.scaling.original_context_length', uint(scaling.originalMaxPositions)],
      );
      if (Math.abs(scaling.attentionFactor / usual - 1) > 1e-6) {
        settings.push(['rope.scaling.attn_factor', float(scaling.attentionFactor / usual)]);
      }
      return;
    }
    case 'longrope':
      if (name !== 'llama' && name !== 'phi3') throw unsupported('RoPE scaling of the type longrope');
      settings.push(
        ['rope.scaling.type', text('longrope')],
        ['rope.scaling.original_context_length', uint(scaling.originalMaxPositions)],
        ['rope.scaling.attn_factor', float(scaling.attentionFactor)],
      );
      ropeTensors.push(['rope_factors_long.weight', Float32Array.from(scaling.longFactors)]);
      ropeTensors.push(['rope_factors_short.weight', Float32Array.from(scaling.shortFactors)]);
      return;
    case 'proportional':
      throw unsupported('RoPE scaling of the type proportional');
    case 'dynamic':
      throw unsupported('RoPE scaling of the type dynamic, which depends on the length of the text');
  }
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
