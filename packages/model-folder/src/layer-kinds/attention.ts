import type { LayerAttention } from '../architecture.js';
import type { MixerKind, MixerTensor } from './mixer-kind.js';

/** The heads of a layer's keys and values. */
export interface LayerHeads {
  keyValueHeadCount: number;
  headDim: number;
}

/** The heads of a layer with this attention. */
export function attentionHeads(own: LayerAttention, usual: LayerHeads): LayerHeads {
  return {
    keyValueHeadCount: own.keyValueHeadCount ?? usual.keyValueHeadCount,
    headDim: own.headDim ?? usual.headDim,
  };
}

export const attentionKind: MixerKind<LayerAttention> = {
  linears(own, architecture, { linear, stacked }) {
    const { names, headCount, hiddenSize, attention, bias } = architecture;
    const { keyValueHeadCount, headDim } = attentionHeads(own, architecture);
    const attended = headCount * headDim;
    const query = attention.outputGate === null ? attended : 2 * attended;
    const keyValue = keyValueHeadCount * headDim;
    const { keysAreValues = false, keysAndValuesOf } = own;
    const ofKeys = keysAreValues ? [keyValue] : [keyValue, keyValue];
    const sizes = keysAndValuesOf === undefined ? [query, ...ofKeys] : [query];
    const isFused = names.queryKeyValue.length === 1;
    const paths = isFused ? names.queryKeyValue : names.queryKeyValue.slice(0, sizes.length);
    return {
      inputs: stacked(paths, sizes, bias.queryKeyValue),
      between: [],
      output: linear(names.attentionOutput, attended, hiddenSize, bias.attentionOutput),
    };
  },

  tensors(own, architecture) {
    const { names, headCount, attention } = architecture;
    const { keyValueHeadCount, headDim } = attentionHeads(own, architecture);
    const ofHead = attention.queryKeyNorm === 'head';
    const normOf = (path: string | null, heads: number): MixerTensor[] =>
      path === null ? [] : [{ path, shape: [ofHead ? headDim : heads * headDim], isNorm: true }];
    return [
      ...(names.sinks === null ? [] : [{ path: names.sinks, shape: [headCount] }]),
      ...normOf(names.queryNorm, headCount),
      ...normOf(own.keysAndValuesOf === undefined ? names.keyNorm : null, keyValueHeadCount),
    ];
  },

  keyValueNumbers(own, architecture) {
    if (own.keysAndValuesOf !== undefined) return 0;
    const { keyValueHeadCount, headDim } = attentionHeads(own, architecture);
    return 2 * keyValueHeadCount * headDim;
  },

  stateBytes: () => 0,

  rotaryDim: (own, architecture) => attentionHeads(own, architecture).headDim,

  roundings: () => 0,
};
