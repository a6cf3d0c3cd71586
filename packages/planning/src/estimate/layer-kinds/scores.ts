import { type DecoderArchitecture, headsOf } from '@lorasmith/model-folder';
import type { PassLoad } from '../batch-load.js';
import type { MixerContext, MixerOperations } from './mixer-estimate.js';

/** Rows up to this length keep the weights of attention in TensorFlow's own ops; those of longer ones are computed again. */
const LONGEST_WITH_WEIGHTS = 512;

/** Bytes per token of the weights of attention that a layer keeps: none with the fused op, and none of long rows. */
export function savedScores(
  { architecture, engine, width }: Pick<MixerContext, 'architecture' | 'engine' | 'width'>,
  { longestRow }: Pick<PassLoad, 'longestRow'>,
): number {
  return engine.fused || longestRow > LONGEST_WITH_WEIGHTS ? 0 : width * architecture.headCount * longestRow;
}

/** Bytes of queries, keys, values and what attention gives of rows that share tokens: those that are kept, and those of a token. */
export function repeatedScores(context: MixerContext, load: PassLoad): { kept: number; passing: number } {
  const { architecture, layer, width } = context;
  const { keyValueHeadCount, headDim } = headsOf(architecture, layer);
  const numbers = 2 * architecture.headCount * headDim + 2 * keyValueHeadCount * headDim;
  const perToken = 4 * architecture.headCount + width * numbers + savedScores(context, load);
  return { kept: (load.mostRepeated ?? 0) * perToken, passing: width * numbers };
}

/** A causal row of n tokens has n² / 2 scores in each head. Heads of latent attention are padded. */
export function scoreOperations(
  own: { headDim?: number | undefined },
  { headCount, headDim }: DecoderArchitecture,
  squares: number,
): MixerOperations {
  return { scores: (squares / 2) * headCount * (own.headDim ?? headDim), states: 0 };
}
