import type { DecoderNames } from './decoder-names.js';

/** A way in which RoPE scaling changes the frequencies or the magnitude. Absent settings have the defaults of transformers. */
export type RopeScaling =
  /** All positions are divided by `factor`. */
  | { type: 'linear'; factor: number }
  /** NTK: the base grows with the length of the text once it exceeds `maxPositions`. */
  | { type: 'dynamic'; factor: number; maxPositions: number }
  /** The scaling of Llama 3.1: low frequencies are divided by `factor`, high ones unchanged, those between interpolated. */
  | { type: 'llama3'; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositions: number }
  /** YaRN (Peng et al. 2023, arXiv:2309.00071). */
  | {
      type: 'yarn';
      factor: number;
      originalMaxPositions: number;
      /** Frequencies with at least this many rotations within the original context are unchanged. */
      betaFast: number;
      /** Frequencies with fewer rotations are divided by the full `factor`. */
      betaSlow: number;
      /** True if the bounds of the range between them are rounded to integer dimensions. */
      truncate: boolean;
      attentionFactor: number;
    }
  /** LongRoPE (Ding et al. 2024, arXiv:2402.13753): each frequency has its own divisor; the length selects the set. */
  | {
      type: 'longrope';
      /** Factors for texts up to `originalMaxPositions`. */
      shortFactors: readonly number[];
      longFactors: readonly number[];
      originalMaxPositions: number;
      attentionFactor: number;
    }
  /** The first `pairs` rotate as if all did, and by angles that are divided by `factor`; the others do not rotate. */
  | { type: 'proportional'; pairs: number; factor: number };

/** Rotary position embedding (Su et al. 2021, arXiv:2104.09864), with the scaling of the config. */
export interface RopeSettings {
  /** Base of the frequencies. */
  theta: number;
  /** Fraction of each head's dimensions that rotates, from the first. */
  partialRotaryFactor: number;
  /** The dimensions 2i and 2i + 1 are a pair; otherwise i and i + half of those that rotate. */
  interleaved: boolean;
  scaling: RopeScaling | null;
  /**
   * The numbers of pairs of dimensions that rotate by the frame, the row and the column of a part of an image; the three alternate. A
   * token of text has the same position in all three.
   */
  sections?: readonly [number, number, number];
}

/** `y = n · (weightOffset + weight) + bias`, where n is x, for `layer` minus its mean, divided by its root mean square. */
export interface NormSettings {
  /** Root mean square norm (arXiv:1910.07467) without bias, or layer norm (arXiv:1607.06450) with one. */
  kind: 'rms' | 'layer';
  epsilon: number;
  /** 1 if the stored weights are offsets from one, as in Gemma. */
  weightOffset: 0 | 1;
}

/** The settings of attention by scores of queries and keys, of whatever kind. */
export interface ScoredAttention {
  /** The factor of the scores. */
  scale: number;
  /** Query i sees keys j with i - window < j ≤ i; null: all j ≤ i. */
  window: number | null;
  /** The index of its rotary settings in `ropes`. Layers with the same have heads of the same size. */
  rope: number;
}

/** Attention whose queries, keys and values are projections of the layer's input. */
export interface LayerAttention extends ScoredAttention {
  kind: 'attention';
  /** Its number of key and value heads. @defaultValue that of the architecture */
  keyValueHeadCount?: number | undefined;
  /** The size of its heads. @defaultValue that of the architecture */
  headDim?: number | undefined;
  /** Its values are its keys before the norm, so it has no projection of values. @defaultValue false */
  keysAreValues?: boolean | undefined;
  /** The earlier layer whose keys and values it reads; it has no projections of its own for them. @defaultValue none */
  keysAndValuesOf?: number | undefined;
}

/**
 * Attention whose keys and values are projections of a small latent (multi-head latent attention of DeepSeek-V2, arXiv:2405.04434).
 * Positions rotate a part of each head; the keys' part is the same for all heads.
 */
export interface LatentAttention extends ScoredAttention {
  kind: 'latent';
  /** The size of the latent of queries; null: they are projected from the input. */
  queryRank: number | null;
  /** The size of the latent of keys and values. */
  keyValueRank: number;
  /** Numbers of a query or key that positions do not rotate. */
  plainDim: number;
  /** Numbers of a query or key that positions rotate; even. */
  rotaryDim: number;
  /** Numbers of a value. */
  valueDim: number;
  /** The epsilon of the norms of latents. */
  normEpsilon: number;
}

/**
 * Linear attention: a causal convolution, the gated delta rule (Gated DeltaNet, Yang et al. 2024, arXiv:2412.06464), and a gated norm.
 */
export interface LinearAttention {
  kind: 'linear';
  /** The number of query heads, and of key heads. */
  keyHeadCount: number;
  /** A multiple of `keyHeadCount`: each key head serves as many consecutive value heads. */
  valueHeadCount: number;
  keyHeadDim: number;
  valueHeadDim: number;
  /** The tokens that an output of the convolution depends on. */
  convolutionTaps: number;
}

/** The part of a layer in which a token reads those before it. `layer-kinds` says what each kind is made of. */
export type Mixer = LayerAttention | LatentAttention | LinearAttention;

/** One MLP, which all tokens pass. */
export interface DenseMlp {
  kind: 'dense';
  /** @defaultValue that of the architecture */
  intermediateSize?: number | undefined;
}

/** Experts in the place of an MLP. */
export interface SparseMlp {
  kind: 'sparse';
  experts: Experts;
}

/** An MLP in parallel with experts: both read the residual stream, and what they give is added. */
export interface ParallelMlp {
  kind: 'parallel';
  /** The width of the MLP. @defaultValue that of the architecture */
  intermediateSize?: number | undefined;
  experts: Experts;
}

/** The part of a layer that computes with each token alone. `layer-kinds` says what each kind is made of. */
export type Mlp = DenseMlp | SparseMlp | ParallelMlp;

/** The settings that can differ between layers. */
export interface LayerSettings {
  mixer: Mixer;
  mlp: Mlp;
}

/** A query at position p is multiplied by `1 + beta · ln(1 + ⌊p / originalMaxPositions⌋)`. */
export interface QueryGrowth {
  beta: number;
  originalMaxPositions: number;
}

/** Activation functions; in parentheses their other names in transformers. */
export type Activation =
  | 'relu'
  /** max(x, 0)² */
  | 'relu2'
  /** x Φ(x) */
  | 'gelu'
  /** The tanh approximation of gelu (`gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`). */
  | 'gelu_tanh'
  /** x · sigmoid(1.702 x) */
  | 'quick_gelu'
  /** x · sigmoid(x) (`swish`) */
  | 'silu'
  | 'tanh'
  | 'sigmoid';

/**
 * The numbers of each token that a layer reads in addition to the residual stream (per-layer embeddings of Gemma 3n and Gemma 4): an
 * embedding of the token for this layer, and a projection of the embedded token.
 */
export interface LayerInputs {
  /** Numbers of a token in each layer. */
  size: number;
  /** The rows of the table of embeddings: at least the vocabulary. */
  vocabSize: number;
}

/**
 * A mixture of experts in place of the MLP or in parallel with it (Shazeer et al. 2017, arXiv:1701.06538): the router gives each token's output as
 * a weighted sum of a few experts, each an MLP of the same kind as that of other layers.
 */
export interface Experts {
  /** Experts of a layer. */
  count: number;
  /** The experts that a token passes: those with the largest logits of the router; of equal ones the first. */
  perToken: number;
  /** The width of each expert. */
  intermediateSize: number;
  /** True if a token's weights, a softmax of the router's logits, are divided by the sum of those of its experts. */
  renormalized: boolean;
  /**
   * The router scores by sigmoid, as in DeepSeek-V3 (arXiv:2412.19437). A correction of each expert, which is no part of its weight, is
   * added to choose the groups of experts with the two largest scores and then the experts in these. Weights are multiplied by
   * `scale`. @defaultValue it scores by softmax
   */
  sigmoid?: { groups: number; groupsPerToken: number; scale: number } | undefined;
  /** The expert that all tokens pass in addition, times the sigmoid of its gate where it has one; null: there is none. */
  shared: { intermediateSize: number } | null;
  /** True if the router and the experts have biases. @defaultValue false */
  biases?: boolean | undefined;
  /**
   * The form of the experts of a layer in the files: in one tensor `[experts, out, in]`, or `[experts, in, out]` where it is transposed; in
   * MXFP4, of the shape of the first; or each by itself.
   */
  files: 'fused' | 'transposed' | 'mxfp4' | 'each';
}

/** The settings of a decoder, from its config.json and the defaults of transformers. */
export interface DecoderArchitecture {
  kind: 'decoder';
  /** The `model_type` of a language model: of a composite, that of its `text_config`. */
  family: string;
  names: DecoderNames;
  vocabSize: number;
  hiddenSize: number;
  /** The width of an MLP that has none of its own. */
  intermediateSize: number;
  layerCount: number;
  /** The number of query heads. */
  headCount: number;
  /** The number of key and value heads; divides `headCount` (grouped-query attention, arXiv:2305.13245). */
  keyValueHeadCount: number;
  /** The size of a head; of latent attention what queries, keys and values are padded to. */
  headDim: number;
  /** The factor of the embeddings. */
  embeddingScale: number;
  /** The factor of what attention and MLP add to the residual stream. */
  branchScale: number;
  /** The factor of the logits. */
  logitScale: number;
  norm: NormSettings;
  /** The different rotary settings of the layers. null rotates nothing. */
  ropes: readonly (RopeSettings | null)[];
  /** The settings of attention by scores that all layers share. */
  attention: {
    /** A scaled score s becomes softcap · tanh(s / softcap); null: unchanged. */
    softcap: number | null;
    /** null: the position does not change the length of a query. */
    queryGrowth: QueryGrowth | null;
    /** The numbers that a norm of queries or keys is of: those of each head, or of all heads together. */
    queryKeyNorm: 'head' | 'projection';
    /** The norm of the values of each head, which has no weights; null: there is none. */
    valueNorm: 'rms' | null;
    /**
     * The function of a gate by which the output of each head is multiplied; the query projection has the gate of each head behind
     * its query. null: there is none.
     */
    outputGate: 'sigmoid' | null;
  };
  /** One entry per layer. */
  layers: readonly LayerSettings[];
  /** The inputs of layers in addition to the residual stream; null: there are none. */
  layerInputs: LayerInputs | null;
  /** The settings that MLPs and experts of all layers share: `down(activation(gate x) · up x)`; without a gate, `down(activation(up x))`. */
  mlp: {
    gated: boolean;
    activation: Activation;
    /**
     * The gated unit of gpt-oss, `(up + 1) · activation(gate)`: gates are at most this, and ups within ± this. Gate and up of each
     * number are next to each other. @defaultValue the usual unit
     */
    clampedAt?: number | undefined;
  };
  /** The linear layers that have a bias. */
  bias: { queryKeyValue: boolean; attentionOutput: boolean; mlp: boolean };
  /** Linear weights, except the head's, are stored as `[in, out]`, as in transformers' Conv1D. */
  transposedWeights: boolean;
  /** A logit l becomes logitSoftcap · tanh(l / logitSoftcap); null: unchanged. */
  logitSoftcap: number | null;
  /** The output head is the embedding matrix. */
  tiedHead: boolean;
  /** The maximum tokens of a text, including the positions that RoPE scaling adds. */
  maxPositions: number;
  /** Fields of config.json that set a dropout above 0. It is not applied. */
  ignoredDropout: readonly string[];
  bosTokenId: number | null;
  /** Any of these ends a generated text. */
  eosTokenIds: number[];
  padTokenId: number | null;
}

/** A stack of linear layers with activations between them: `nn.Sequential(Linear, act, Linear, …)`. */
export interface ClassifierArchitecture {
  kind: 'classifier';
  family: 'classifier';
  /** The layers in order. `name` is the index in the sequence; the tensors are `<name>.weight` and `<name>.bias`. */
  layers: { name: string; inFeatures: number; outFeatures: number; bias: boolean }[];
  /** The activation between the layers; none after the last. */
  activation: Activation;
}

export type Architecture = DecoderArchitecture | ClassifierArchitecture;

/** True if the output head is the embedding matrix, so that a change to one changes both. */
export function hasTiedHead(architecture: Architecture): boolean {
  return architecture.kind === 'decoder' && architecture.tiedHead;
}

/** Rows share the tokens that they begin with where these are at least such a share of a batch: attention copies them for each row. */
export const LEAST_SHARED = 1 / 8;

/**
 * The number of logits that a decoder computes at a time. It computes more in chunks, so memory does not grow with tokens ×
 * vocabulary.
 */
export const LOGITS_PER_CHUNK = 16 * 2 ** 20;
