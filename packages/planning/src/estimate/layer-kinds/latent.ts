import type { DecoderArchitecture, LatentAttention } from '@lorasmith/model-folder';
import { repeatedScores, savedScores, scoreOperations } from './attention.js';
import { isAdapted, type MixerEstimate } from './mixer-estimate.js';

/** The numbers of a token that attention gives, padded. */
function attendedOf({ headCount, headDim }: DecoderArchitecture): number {
  return headCount * headDim;
}

export const latentEstimate: MixerEstimate<LatentAttention> = {
  /** Queries, keys, values and what attention gives, padded; the latents before their norms, and a number of each norm. */
  saved(own, context, load) {
    const { architecture, layer, width } = context;
    const { headCount, layerCount, names } = architecture;
    const attended = attendedOf(architecture);
    const values = headCount * own.valueDim;
    // The output projection reads the values alone, and in the last layer those of the wanted tokens.
    const readsCopy = values < attended || layer === layerCount - 1;
    const adapted = readsCopy && isAdapted(context, names.attentionOutput) ? values : 0;
    const latents = (own.queryRank ?? 0) + own.keyValueRank;
    const exact = headCount + (own.queryRank === null ? 1 : 2);
    return 4 * exact + width * (4 * attended + adapted + latents) + savedScores(context, load);
  },

  transient: () => 0,

  /** Gradients by queries, keys and values as attention has them, twice while they are taken apart, and by what the projections give. */
  gradients({ plainDim, rotaryDim, valueDim }, { architecture, width }) {
    const attended = attendedOf(architecture);
    const projected = architecture.headCount * (2 * plainDim + rotaryDim + valueDim);
    return width * (2 * 3 * attended + projected) - width * 4 * attended;
  },

  // The output projection has its own copy of its input anyway.
  repeated: (_, context, load) => repeatedScores(context, load),

  operations: (_, architecture, squares) => scoreOperations({}, architecture, squares),

  withoutKernels: () => null,
};
