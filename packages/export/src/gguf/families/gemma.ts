import { type DecoderArchitecture, mixerOf, mixersOf } from '@lorasmith/model-folder';
import { float, type Setting, uint } from '../metadata-setting.js';
import { checkWindows, windowSettings } from './attention-windows.js';
import type { GgufFamily } from './gguf-family.js';
import { checkOneRope } from './one-rope.js';

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
