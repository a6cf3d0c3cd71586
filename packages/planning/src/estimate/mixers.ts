import {
  type DecoderArchitecture,
  headsOf,
  type LatentAttention,
  type LayerAttention,
  type LinearAttention,
  linearAttentionSizes,
  type Mixer,
  type MixerOf,
  mixersOf,
} from '@lorasmith/model-folder';
import type { Target } from '../targets.js';
import type { PassLoad } from './batch-load.js';
import type { EngineMemory } from './engine-memory.js';

/** The layer and the job that the memory of a mixer depends on, in addition to its settings. */
export interface MixerContext {
  architecture: DecoderArchitecture;
  /** The index of its layer. */
  layer: number;
  targets: readonly Target[];
  engine: EngineMemory;
  /** Bytes of a number in the computing type. */
  width: number;
}

/** The work of a mixer, in the unit of scores: a score takes headDim multiply-adds, its use as many. */
interface MixerOperations {
  /** Multiply-adds of the scores of all rows. */
  scores: number;
  /** Multiply-adds of a token in the states of linear attention. */
  states: number;
}

/** A kind of mixer, as estimates need it. Bytes are per token, except where it says otherwise. */
interface MixerEstimate<Own extends Mixer> {
  /** Bytes kept between forward and backward pass. */
  saved(own: Own, context: MixerContext, load: PassLoad): number;
  /** Bytes of tensors that live within its backward pass, while all that the layer has kept is in memory. */
  passing(own: Own, context: MixerContext): number;
  /** Bytes of the gradients within its backward pass, less what it has kept and freed by then. */
  gradients(own: Own, context: MixerContext): number;
  /** Extra bytes of rows with a shared prompt: `kept` of all rows between forward and backward pass, `passing` of a token within the backward pass. */
  repeated(own: Own, context: MixerContext, load: PassLoad): { kept: number; passing: number };
  /** @param squares the sum of the squared lengths of all rows */
  operations(own: Own, architecture: DecoderArchitecture, squares: number): MixerOperations;
  /** The part that an engine for GPUs has no kernels for; null: it has them for all. */
  withoutKernels(own: Own, engine: 'cuda' | 'tensorflow'): string | null;
}

/** True if layers with this name are adapted. */
function isAdapted({ targets }: Pick<MixerContext, 'targets'>, path: string): boolean {
  return targets.some(({ name }) => name.endsWith(`.${path}`));
}

/** The numbers of a token: those that attention gives, and with its queries those of its keys and values. */
function sizesOf({ architecture, layer }: Pick<MixerContext, 'architecture' | 'layer'>) {
  const { keyValueHeadCount, headDim } = headsOf(architecture, layer);
  const attended = architecture.headCount * headDim;
  const keysAndValues = 2 * keyValueHeadCount * headDim;
  return { headDim, attended, keysAndValues, qkv: attended + keysAndValues };
}

const attentionEstimate: MixerEstimate<LayerAttention> = {
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

  passing: () => 0,

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
    const { kept, passing } = repeatedScores(context, load);
    // A gate has its own copy of the input of the output projection anyway.
    const isRead = attention.outputGate === null && isAdapted(context, names.attentionOutput);
    return { kept: kept + (isRead ? load.mostTokens * width * sizesOf(context).attended : 0), passing };
  },

  operations: scoreOperations,

  withoutKernels: () => null,
};

/** Rows up to this length keep the weights of attention in TensorFlow's own ops; those of longer ones are computed again. */
const LONGEST_WITH_WEIGHTS = 512;

/** Bytes per token of the weights of attention that a layer keeps: none with the fused op, and none of long rows. */
function savedScores(
  { architecture, engine, width }: Pick<MixerContext, 'architecture' | 'engine' | 'width'>,
  { longestRow }: Pick<PassLoad, 'longestRow'>,
): number {
  return engine.fused || longestRow > LONGEST_WITH_WEIGHTS ? 0 : width * architecture.headCount * longestRow;
}

/** Bytes of queries, keys, values and outputs of attention for rows with a shared prompt: those that are kept, and those of a token. */
function repeatedScores(context: MixerContext, load: PassLoad): { kept: number; passing: number } {
  const { architecture, layer, width } = context;
  const { keyValueHeadCount, headDim } = headsOf(architecture, layer);
  const numbers = 2 * architecture.headCount * headDim + 2 * keyValueHeadCount * headDim;
  const perToken = 4 * architecture.headCount + width * numbers + savedScores(context, load);
  return { kept: (load.mostRepeated ?? 0) * perToken, passing: width * numbers };
}

/** A causal row of n tokens has n² / 2 scores in each head. Heads of latent attention are padded. */
function scoreOperations(
  own: { headDim?: number | undefined },
  { headCount, headDim }: DecoderArchitecture,
  squares: number,
): MixerOperations {
  return { scores: (squares / 2) * headCount * (own.headDim ?? headDim), states: 0 };
}

/** The numbers of a token that attention gives, padded. */
function attendedOf({ headCount, headDim }: DecoderArchitecture): number {
  return headCount * headDim;
}

const latentEstimate: MixerEstimate<LatentAttention> = {
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

  passing: () => 0,

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

/** Tokens between two states that are kept: DELTA_CHUNK of packages/tensor. */
const STATE_TOKENS = 64;

/** The widest heads and longest convolutions that the CUDA engine has kernels for: packages/tensor/native/cuda/host. */
const CUDA_HEAD_SIZES = [64, 128] as const;
const CUDA_TAPS = 8;

/** The size of the CUDA kernels that fit a head; undefined where it is too wide. */
function cudaHeadSize({ keyHeadDim, valueHeadDim }: LinearAttention): number | undefined {
  return CUDA_HEAD_SIZES.find((size) => Math.max(keyHeadDim, valueHeadDim) <= size);
}

/** Bytes per token of the states that are kept. */
function keptStates(own: LinearAttention, engine: EngineMemory): number {
  const { keyHeadDim, valueHeadDim, valueHeadCount } = own;
  const size = engine.keepsStateGradients ? cudaHeadSize(own)! ** 2 : keyHeadDim * valueHeadDim;
  return (4 * valueHeadCount * size) / STATE_TOKENS;
}

const linearEstimate: MixerEstimate<LinearAttention> = {
  saved(own, context) {
    const { architecture, engine, width } = context;
    const { mixed, values } = linearAttentionSizes(own);
    const kept = mixed + 2 * values + 2 * own.valueHeadCount;
    const adapted = isAdapted(context, architecture.names.linearAttention!.output) ? values : 0;
    return width * (kept + adapted) + keptStates(own, engine);
  },

  /**
   * Queries and keys in float32. On processors in addition their gradients of each value head, and those by the convolution's sums; on a GPU
   * three vectors of each value head and the gradients by its states.
   */
  passing(own, { engine, width }) {
    const { mixed, values } = linearAttentionSizes(own);
    const { keyHeadCount, valueHeadCount, keyHeadDim } = own;
    const passing = width * (4 * mixed + 4 * values);
    if (engine.keepsStateGradients) {
      const vectors = (2 * keyHeadCount + 3 * valueHeadCount) * cudaHeadSize(own)!;
      return 4 * (vectors + 2 * valueHeadCount) + keptStates(own, engine) + passing;
    }
    return 4 * (2 * (keyHeadCount + valueHeadCount) * keyHeadDim + mixed) + passing;
  },

  gradients: () => 0,

  repeated(own, { engine, width }, { mostRepeated = 0 }) {
    const { mixed, values } = linearAttentionSizes(own);
    return { kept: mostRepeated * keptStates(own, engine), passing: width * (mixed + values) };
  },

  /** A state is read twice and changed twice. */
  operations: ({ valueHeadCount, keyHeadDim, valueHeadDim }) => ({
    scores: 0,
    states: 2 * valueHeadCount * keyHeadDim * valueHeadDim,
  }),

  withoutKernels(own, engine) {
    if (engine !== 'cuda') return 'the linear attention';
    const { keyHeadDim, valueHeadDim, convolutionTaps } = own;
    if (cudaHeadSize(own) === undefined) {
      return `the linear attention with heads of ${keyHeadDim} by ${valueHeadDim} numbers`;
    }
    return convolutionTaps > CUDA_TAPS ? `the convolution over ${convolutionTaps} tokens` : null;
  },
};

/** The kinds of mixers. To add one, describe it above and add a line here. */
const ESTIMATES: { readonly [Kind in Mixer['kind']]: MixerEstimate<MixerOf<Kind>> } = {
  attention: attentionEstimate,
  latent: latentEstimate,
  linear: linearEstimate,
};

function mixerIn({ layers }: DecoderArchitecture, layer: number): { own: Mixer; estimate: MixerEstimate<Mixer> } {
  const own = layers[layer]!.mixer;
  return { own, estimate: ESTIMATES[own.kind] as MixerEstimate<Mixer> };
}

/** See {@link MixerEstimate.saved}. */
export function savedByMixer(context: MixerContext, load: PassLoad): number {
  const { own, estimate } = mixerIn(context.architecture, context.layer);
  return estimate.saved(own, context, load);
}

/** See {@link MixerEstimate.passing}: of all layers the most. */
export function mixerPassing(context: Omit<MixerContext, 'layer'>): number {
  const ofLayers = context.architecture.layers.map((_, layer) => {
    const { own, estimate } = mixerIn(context.architecture, layer);
    return estimate.passing(own, { ...context, layer });
  });
  return Math.max(...ofLayers);
}

/** See {@link MixerEstimate.gradients}. */
export function mixerGradients(context: MixerContext): number {
  const { own, estimate } = mixerIn(context.architecture, context.layer);
  return estimate.gradients(own, context);
}

/** See {@link MixerEstimate.repeated}. */
export function repeatedInMixer(context: MixerContext, load: PassLoad): { kept: number; passing: number } {
  const { own, estimate } = mixerIn(context.architecture, context.layer);
  return estimate.repeated(own, context, load);
}

/** See {@link MixerEstimate.operations}. */
export function mixerOperations(architecture: DecoderArchitecture, layer: number, squares: number): MixerOperations {
  const { own, estimate } = mixerIn(architecture, layer);
  return estimate.operations(own, architecture, squares);
}

/** The first mixer's part that an engine for GPUs has no kernels for; null: it has them for all. */
export function mixerWithoutKernels(architecture: DecoderArchitecture, engine: 'cuda' | 'tensorflow'): string | null {
  const parts = architecture.layers.map((_, layer) => {
    const { own, estimate } = mixerIn(architecture, layer);
    return estimate.withoutKernels(own, engine);
  });
  return parts.find((part) => part !== null) ?? null;
}
