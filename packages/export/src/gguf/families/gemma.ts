import { type DecoderArchitecture, headsOf, mixerOf, mixersOf } from '@lorasmith/model-folder';
import { float, type RefuseIf, type Setting, uint } from '../metadata-setting.js';
import { checkOneRope, checkWindows, type GgufFamily, windowSettings } from './gguf-family.js';

/** llama.cpp scales the scores of the releases with 27B, which it knows by their layers, by the hidden size for each head. */
const scaleUnless27B =
  (layersOf27B: number) =>
  ({ layerCount, hiddenSize, headCount, headDim }: DecoderArchitecture): number =>
    1 / Math.sqrt(layerCount === layersOf27B ? hiddenSize / headCount : headDim);

/** The cap of the logits, if there is one. */
export function logitCap({ logitSoftcap }: DecoderArchitecture): Setting[] {
  return logitSoftcap === null ? [] : [['final_logit_softcapping', float(logitSoftcap)]];
}

/** Gemma 2: a window in every second layer, from the first. */
export const gemma2: GgufFamily = {
  architecture: 'gemma2',
  activation: 'gelu_tanh',
  scoreScale: scaleUnless27B(46),
  biases: [],
  hasWindows: true,
  settings: (architecture) => [
    ...logitCap(architecture),
    ['attn_logit_softcapping', float(architecture.attention.softcap!)],
    ['attention.sliding_window', uint(mixerOf(architecture, 0, 'attention').window!)],
  ],
  check(architecture, refuseIf) {
    const { attention, logitSoftcap, tiedHead } = architecture;
    checkOneRope(architecture, refuseIf);
    refuseIf(!tiedHead, 'output head of its own (tie_word_embeddings false)');
    refuseIf(attention.softcap === null, 'attention without attn_logit_softcapping');
    refuseIf(logitSoftcap === null, 'logits without final_logit_softcapping');
    const windows = mixersOf(architecture, 'attention').map((own) => own.window);
    const [window = null] = windows;
    const alternates = windows.every((own, index) => own === (index % 2 === 0 ? window : null));
    refuseIf(
      window === null || !alternates,
      'attention windows but in every second layer, from the first (layer_types)',
    );
  },
};

/** Gemma 3: rotary settings of their own where there is a window. */
export const gemma3: GgufFamily = {
  architecture: 'gemma3',
  activation: 'gelu_tanh',
  scoreScale: scaleUnless27B(62),
  biases: ['queryKeyValue'],
  hasWindows: true,
  settings: (architecture) => [...windowSettings(architecture), ...logitCap(architecture)],
  check(architecture, refuseIf) {
    const { ofFull } = checkWindows(architecture, refuseIf);
    const type = ofFull?.scaling?.type;
    refuseIf(type !== undefined && type !== 'linear', 'RoPE scaling but of the type linear');
    refuseIf(architecture.attention.softcap !== null, 'attn_logit_softcapping');
  },
};

/**
 * Gemma 4 (`Gemma4Model` in llama.cpp's conversion/gemma.py): heads of another size where there is a window, layers that read keys
 * and values of earlier ones, inputs of layers, and experts parallel to MLPs.
 */
export const gemma4: GgufFamily = {
  architecture: 'gemma4',
  activation: 'gelu_tanh',
  scoreScale: () => 1,
  biases: [],
  hasWindows: true,
  ropeFactors: ['proportional'],
  experts: { renormalized: true, optional: true, fusesGateUp: true },
  characterTokenizer: 'gemma4',
  settings(architecture) {
    const { layerInputs } = architecture;
    const { headDim } = headsOf(
      architecture,
      mixersOf(architecture, 'attention').findIndex(({ window }) => window !== null),
    );
    return [
      ...windowSettings(architecture),
      ...logitCap(architecture),
      ['attention.key_length_swa', uint(headDim)],
      ['attention.value_length_swa', uint(headDim)],
      ['rope.dimension_count_swa', uint(headDim)],
      ['attention.shared_kv_layers', uint(readers(architecture).length)],
      ['embedding_length_per_layer_input', uint(layerInputs?.size ?? 0)],
    ];
  },
  check(architecture, refuseIf) {
    const { ofFull, ofWindowed } = checkWindows(architecture, refuseIf);
    refuseIf(ofWindowed === undefined, 'attention without windows');
    // It reads factors of frequencies for these layers always.
    refuseIf(ofFull?.scaling?.type !== 'proportional', 'RoPE but of the type proportional in layers without a window');
    checkReaders(architecture, refuseIf);
  },
};

/** The layers that read keys and values of others. */
function readers(architecture: DecoderArchitecture): number[] {
  return mixersOf(architecture, 'attention').flatMap(({ keysAndValuesOf }, layer) =>
    keysAndValuesOf === undefined ? [] : [layer],
  );
}

/** Checks that the last two layers before the readers have a window, and none: llama.cpp takes theirs for those that are read. */
function checkReaders(architecture: DecoderArchitecture, refuseIf: RefuseIf): void {
  const { layerCount } = architecture;
  const first = layerCount - readers(architecture).length;
  const isElsewhere = mixersOf(architecture, 'attention').some(
    ({ window, keysAndValuesOf: owner }) => owner !== undefined && owner !== first - (window === null ? 1 : 2),
  );
  refuseIf(
    first < 2 || isElsewhere,
    'layers that read keys and values but of the last two layers before them, the second of which has no window (num_kv_shared_layers, layer_types)',
  );
}
