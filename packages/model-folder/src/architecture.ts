/** How rope changes the frequencies or the size of the rotation, with every default of transformers filled in. */
export type RopeScaling =
  /** All positions are divided by `factor`. */
  | { type: 'linear'; factor: number }
  /** NTK: beyond `maxPositions` the base grows with the length of the text. */
  | { type: 'dynamic'; factor: number; maxPositions: number }
  /** As in Llama 3.1: low frequencies are slowed by `factor`, high ones kept, those between blended. */
  | { type: 'llama3'; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositions: number }
  /** YaRN (Peng et al. 2023, arXiv:2309.00071). */
  | {
      type: 'yarn';
      factor: number;
      originalMaxPositions: number;
      /** Turns within the original context from which a frequency is kept, and below which it is slowed in full. */
      betaFast: number;
      betaSlow: number;
      /** Whether the range between them begins and ends at whole dimensions. */
      truncate: boolean;
      attentionFactor: number;
    }
  /** LongRoPE (Ding et al. 2024, arXiv:2402.13753): each frequency has its own divisor, of two sets by the length. */
  | {
      type: 'longrope';
      /** Up to `originalMaxPositions`. */
      shortFactors: readonly number[];
      longFactors: readonly number[];
      originalMaxPositions: number;
      attentionFactor: number;
    };

/** Rotary position embedding (Su et al. 2021, arXiv:2104.09864), with the scaling the config asks for. */
export interface RopeSettings {
  /** Base of the frequencies. */
  theta: number;
  /** Share of each head that rotates: its first dimensions. */
  partialRotaryFactor: number;
  scaling: RopeScaling | null;
}

/** `y = n · (weightOffset + weight) + bias`: n is x over its root mean square, or for `layer` what is so of x less its mean. */
export interface NormSettings {
  /** Root mean square norm (arXiv:1910.07467) without bias, or layer norm (arXiv:1607.06450) with one. */
  kind: 'rms' | 'layer';
  epsilon: number;
  /** 1 where a checkpoint keeps what is added to one. */
  weightOffset: 0 | 1;
}

/** What may differ from layer to layer. */
export interface LayerAttention {
  /** Of the scores. */
  scale: number;
  /** Query i sees keys j with i - window < j ≤ i; null: all j ≤ i. */
  window: number | null;
}

/** Functions of one number; in brackets what transformers calls them. */
export type Activation =
  | 'relu'
  /** max(x, 0)² */
  | 'relu2'
  /** x Φ(x) */
  | 'gelu'
  /** Its approximation by tanh (`gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`). */
  | 'gelu_tanh'
  /** x · sigmoid(1.702 x) */
  | 'quick_gelu'
  /** x · sigmoid(x) (`swish`) */
  | 'silu'
  | 'tanh'
  | 'sigmoid';

/**
 * Where the parts of a decoder are: module paths as transformers and PEFT have them. Those from `attentionNorm` on are
 * within a layer. What a family does not have, has no name.
 */
export interface DecoderNames {
  embedding: string;
  /** Learned positions. */
  positions: string | null;
  /** A layer is at `<layers>.<index>`. */
  layers: string;
  finalNorm: string;
  head: string;
  attentionNorm: string;
  /** Of queries, keys and values; one that is all three where they are fused. */
  queryKeyValue: readonly string[];
  /** Norm of each head's query and key. */
  queryNorm: string | null;
  keyNorm: string | null;
  attentionOutput: string;
  /** Norm of what attention adds to the residual stream. */
  attentionBranchNorm: string | null;
  mlpNorm: string;
  /** Gate and up; one that is both where they are fused, up alone where there is no gate. */
  gateUp: readonly string[];
  down: string;
  /** Norm of what the MLP adds to the residual stream. */
  mlpBranchNorm: string | null;
  /** Begins module paths and is left out of the names of tensors, where a checkpoint was saved without its head. */
  omittedPrefix: string;
}

export type DecoderFamily = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'gemma2' | 'phi3' | 'gpt2';

/** A decoder as configuration: what its config.json says, every default filled in. */
export interface DecoderArchitecture {
  kind: 'decoder';
  family: DecoderFamily;
  names: DecoderNames;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layerCount: number;
  /** Query heads. */
  headCount: number;
  /** Heads of keys and values; divides `headCount` (grouped-query attention, arXiv:2305.13245). */
  keyValueHeadCount: number;
  headDim: number;
  /** Embeddings are multiplied by it. */
  embeddingScale: number;
  norm: NormSettings;
  /** null where positions are learned. */
  rope: RopeSettings | null;
  attention: {
    /** A scaled score s becomes softcap · tanh(s / softcap); null: stays. */
    softcap: number | null;
    /** One for each layer. */
    layers: readonly LayerAttention[];
  };
  /** `down(activation(gate x) · up x)`, or without a gate `down(activation(up x))`. */
  mlp: { gated: boolean; activation: Activation };
  /** Which linear layers have a bias. */
  bias: { queryKeyValue: boolean; attentionOutput: boolean; mlp: boolean };
  /** Linear weights lie as `[in, out]`, as in transformers' Conv1D; the head's does not. */
  transposedWeights: boolean;
  /** A logit l becomes logitSoftcap · tanh(l / logitSoftcap); null: stays. */
  logitSoftcap: number | null;
  /** The output head is the embedding matrix. */
  tiedHead: boolean;
  /** Tokens of a text at most: with what the rope scaling adds to the positions that the config names. */
  maxPositions: number;
  /** Fields of config.json with a dropout above 0; it is not applied. */
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
  /** In order; `name` is the index in the sequence, so the weights are `<name>.weight` and `<name>.bias`. */
  layers: { name: string; inFeatures: number; outFeatures: number; bias: boolean }[];
  /** Between the layers; none after the last. */
  activation: Activation;
}

export type Architecture = DecoderArchitecture | ClassifierArchitecture;

/**
 * Logits that a decoder computes at once. Beyond it computes them in further chunks, so memory does not grow with
 * tokens × vocabulary.
 */
export const LOGITS_PER_CHUNK = 16 * 2 ** 20;
