import type { LatentAttention } from '../architecture.js';
import type { MixerKind, MixerTensor } from './mixer-kind.js';

export const latentKind: MixerKind<LatentAttention> = {
  linears(own, { names, headCount, hiddenSize, bias }, { linear, stacked }) {
    const { queryRank, keyValueRank, plainDim, rotaryDim, valueDim } = own;
    const { query, keyValue } = names.latentAttention!;
    const queries = headCount * (plainDim + rotaryDim);
    const ofKeyValue = linear(keyValue.projection, keyValueRank, headCount * (plainDim + valueDim), false);
    return {
      inputs: stacked(names.queryKeyValue, [queryRank ?? queries, keyValueRank + rotaryDim], bias.queryKeyValue),
      between: queryRank === null ? [ofKeyValue] : [linear(query!.projection, queryRank, queries, false), ofKeyValue],
      output: linear(names.attentionOutput, headCount * valueDim, hiddenSize, bias.attentionOutput),
    };
  },

  tensors({ queryRank, keyValueRank }, { names }) {
    const { query, keyValue } = names.latentAttention!;
    const normOf = (path: string, size: number): MixerTensor => ({ path, shape: [size], isNorm: true });
    const ofKeyValue = normOf(keyValue.norm, keyValueRank);
    return queryRank === null ? [ofKeyValue] : [normOf(query!.norm, queryRank), ofKeyValue];
  },

  keyValueNumbers: (_, { keyValueHeadCount, headDim }) => 2 * keyValueHeadCount * headDim,

  stateBytes: () => 0,

  rotaryDim: ({ rotaryDim }) => rotaryDim,

  /** The latents and what is projected of each. */
  roundings: ({ queryRank }) => (queryRank === null ? 2 : 4),
};
