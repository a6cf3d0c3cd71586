/** Rotary position embedding (Su et al. 2021, arXiv:2104.09864), with the scaling the config asks for. */
export interface RopeSettings {
  /** Base of the frequencies. */
  theta: number;
  scaling: null | {
    /** As in Llama 3.1: low frequencies are slowed by `factor`, high ones kept, those between blended. */
    type: 'llama3';
    factor: number;
    lowFreqFactor: number;
    highFreqFactor: number;
    originalMaxPositions: number;
  };
}

/** A decoder as configuration: what its config.json says, every default filled in. */
export interface DecoderArchitecture {
  kind: 'decoder';
  family: 'llama' | 'qwen2';
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layerCount: number;
  /** Query heads. */
  headCount: number;
  /** Heads of keys and values; divides `headCount` (grouped-query attention, arXiv:2305.13245). */
  keyValueHeadCount: number;
  headDim: number;
  normEpsilon: number;
  rope: RopeSettings;
  /** Whether the linear layers of attention have a bias. */
  bias: { query: boolean; key: boolean; value: boolean; output: boolean; mlp: boolean };
  /** The output head is the embedding matrix. */
  tiedHead: boolean;
  maxPositions: number;
  bosTokenId: number | null;
  /** Any of these ends a generated text. */
  eosTokenIds: number[];
  padTokenId: number | null;
}

export type Activation = 'relu' | 'gelu' | 'silu' | 'tanh' | 'sigmoid';

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
