import { type DecoderArchitecture, headsOf, type LayerAttention, mixersOf } from '@lorasmith/model-folder';
import type { LargestPass } from '../batch-load.js';
import { isAdapted, type MixerContext, type MixerEstimate, type MixerOperations } from './mixer-estimate.js';

/** The numbers of a token: those that attention gives, and with its queries those of its keys and values. */
function sizesOf({ architecture, layer }: Pick<MixerContext, 'architecture' | 'layer'>) {
  const { keyValueHeadCount, headDim } = headsOf(architecture, layer);
  const attended = architecture.headCount * headDim;
  const keysAndValues = 2 * keyValueHeadCount * headDim;
  return { headDim, attended, keysAndValues, qkv: attended + keysAndValues };
}

export const attentionEstimate: MixerEstimate<LayerAttention> = {
  saved(own, context, load) {
    const { architecture, layer, width } = context;
    const { headCount, names, attention } = architecture;
    const { headDim, attended, keysAndValues, qkv } = sizesOf(context);
    const isReader = own.keysAndValuesOf !== undefined;
    // Keys and values that other layers read are kept once more, and the gradient by them in float32.
    const isRead = mixersOf(architecture, 'attention').some(({ keysAndValuesOf }) => keysAndValuesOf === layer);
    const shared = isRead ? (4 + width) * keysAndValues : 0;
    // With a gate, attention's output is not the input of the layer that follows.
    const adapted = isAdapted(context, names.attentionOutput) ? attended : 0;
    const gate = attention.outputGate === null ? 0 : 2 * attended + adapted;
    // Norms of queries and keys save their inputs, and a number of each head.
    const normed = names.queryNorm === null ? 0 : isReader ? attended : qkv;
    const exact = headCount + normed / headDim;
    return shared + 4 * exact + width * (qkv + attended + gate + normed) + savedScores(context, load);
  },

  transient: () => 0,

  /** Gradients by queries, keys and values before and after their norms; their parts, inputs and gradients in float32, too. */
  gradients(own, context) {
    const { architecture, width } = context;
    if (architecture.names.queryNorm === null) return 0;
    const { attended, qkv } = sizesOf(context);
    const isReader = own.keysAndValuesOf !== undefined;
    // Numbers in float32 are their own float32.
    const ofNorm = 2 * width + (width === 4 ? 4 : 8);
    return (ofNorm + 2 * width) * (isReader ? attended : qkv) - width * (qkv + attended);
  },

  repeated(_, context, load) {
    const { architecture, width } = context;
    const { names, attention } = architecture;
    const { kept, transient } = repeatedScores(context, load);
    // A gate has its own copy of the input of the output projection anyway.
    const isRead = attention.outputGate === null && isAdapted(context, names.attentionOutput);
    return { kept: kept + (isRead ? load.mostTokens * width * sizesOf(context).attended : 0), transient };
  },

  operations: scoreOperations,

  withoutKernels: () => null,
};

/** Rows up to this length keep the weights of attention in TensorFlow's own ops; those of longer ones are computed again. */
const LONGEST_WITH_WEIGHTS = 512;

/** Bytes per token of the weights of attention that a layer keeps: none with the fused op, and none of long rows. */
export function savedScores(
  { architecture, engine, width }: Pick<MixerContext, 'architecture' | 'engine' | 'width'>,
  { longestRow }: Pick<LargestPass, 'longestRow'>,
): number {
  return engine.fused || longestRow > LONGEST_WITH_WEIGHTS ? 0 : width * architecture.headCount * longestRow;
}

/** Bytes of queries, keys, values and outputs of attention for rows with a shared prompt: those that are kept, and those of a token. */
export function repeatedScores(context: MixerContext, load: LargestPass): { kept: number; transient: number } {
  const { architecture, layer, width } = context;
  const { keyValueHeadCount, headDim } = headsOf(architecture, layer);
  const numbers = 2 * architecture.headCount * headDim + 2 * keyValueHeadCount * headDim;
  const perToken = 4 * architecture.headCount + width * numbers + savedScores(context, load);
  return { kept: (load.mostRepeated ?? 0) * perToken, transient: width * numbers };
}

/** A causal row of n tokens has n² / 2 scores in each head. Heads of latent attention are padded. */
export function scoreOperations(
  own: { headDim?: number | undefined },
  { headCount, headDim }: DecoderArchitecture,
  squares: number,
): MixerOperations {
  return { scores: (squares / 2) * headCount * (own.headDim ?? headDim), states: 0 };
}
