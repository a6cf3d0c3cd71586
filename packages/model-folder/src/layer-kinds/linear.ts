import type { LinearAttention } from '../architecture.js';
import type { DecoderNames } from '../decoder-names.js';
import type { MixerKind } from './mixer-kind.js';

/** The numbers of a token in linear attention: what the convolution reads (queries, keys, values), and the values of all heads. */
export function linearAttentionSizes(
  own: Pick<LinearAttention, 'keyHeadCount' | 'keyHeadDim' | 'valueHeadCount' | 'valueHeadDim'>,
): { mixed: number; values: number } {
  const { keyHeadCount, keyHeadDim, valueHeadCount, valueHeadDim } = own;
  const values = valueHeadCount * valueHeadDim;
  return { mixed: 2 * keyHeadCount * keyHeadDim + values, values };
}

/**
 * True if the projections of linear attention are two, whose numbers are grouped by key head: each head's query, key, values and gates,
 * and its β and decays.
 */
export function isByKeyHead({ linearAttention }: DecoderNames): boolean {
  return linearAttention?.inputs.length === 2;
}

export const linearKind: MixerKind<LinearAttention> = {
  linears(own, { names, hiddenSize }, { linear, stacked }) {
    const paths = names.linearAttention!;
    const { mixed, values } = linearAttentionSizes(own);
    const { valueHeadCount: heads } = own;
    const sizes = isByKeyHead(names) ? [mixed + values, 2 * heads] : [mixed, values, heads, heads];
    return {
      inputs: stacked(paths.inputs, sizes, false),
      between: [],
      output: linear(paths.output, values, hiddenSize, false),
    };
  },

  tensors(own, { names }) {
    const paths = names.linearAttention!;
    return [
      { path: `${paths.convolution}.weight`, shape: [linearAttentionSizes(own).mixed, 1, own.convolutionTaps] },
      { path: paths.decayLog, shape: [own.valueHeadCount] },
      { path: paths.timeStepBias, shape: [own.valueHeadCount] },
      { path: `${paths.norm}.weight`, shape: [own.valueHeadDim] },
    ];
  },

  keyValueNumbers: () => 0,

  /** A float32 state of each head, and what the convolution still reads. */
  stateBytes(own, bytesPerNumber) {
    const state = 4 * own.valueHeadCount * own.keyHeadDim * own.valueHeadDim;
    return state + bytesPerNumber * (own.convolutionTaps - 1) * linearAttentionSizes(own).mixed;
  },

  /** It has no positions; this is the size of a head in the other layers. */
  rotaryDim: (_, { headDim }) => headDim,

  roundings: () => 0,
};
