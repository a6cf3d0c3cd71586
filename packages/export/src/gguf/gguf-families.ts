import type { Activation, DecoderArchitecture, DecoderFamily } from '@lorasmith/model-folder';

type Projections = keyof DecoderArchitecture['bias'];

/** The model that llama.cpp computes for a family. */
export interface GgufFamily {
  /** `general.architecture`. */
  architecture: string;
  /** The activation, whatever config.json says. */
  activation: Activation;
  /** Whether the metadata have factors of embeddings, branches, logits and attention scores. @defaultValue false */
  hasFactors?: boolean;
  /** Whether the heads together must have the size of the hidden state. @defaultValue false */
  headsFillHidden?: boolean;
  /** Whether the metadata say which layers have a window, and the rope of those. @defaultValue false */
  hasWindows?: boolean;
  /** Whether the output head must have a tensor of its own. @defaultValue false */
  ownHead?: boolean;
  /** The linear layers that may have a bias. @defaultValue all */
  biases?: readonly Projections[];
  /**
   * Whether adjacent pairs rotate, where transformers rotates the two halves of a head (`LlamaModel.permute` in
   * convert_hf_to_gguf.py). @defaultValue false
   */
  adjacentPairs?: boolean;
  /** Whether the metadata say if layers have positions. @defaultValue false */
  ropeIsChoice?: boolean;
  /** Whether gate and up, which are one layer in the weight files, are two tensors. @defaultValue false */
  splitsGateUp?: boolean;
  /** Whether some layers must have linear attention. @defaultValue false */
  hasLinearAttention?: boolean;
  /** The name of the norm of what the MLP reads. @defaultValue ffn_norm */
  mlpNorm?: string;
}

/** The families that are written as GGUF. */
export const GGUF_FAMILIES: Readonly<Partial<Record<DecoderFamily, GgufFamily>>> = {
  llama: { architecture: 'llama', activation: 'silu', adjacentPairs: true },
  mistral: { architecture: 'llama', activation: 'silu', adjacentPairs: true },
  ministral3: { architecture: 'mistral3', activation: 'silu', adjacentPairs: true },
  smollm3: { architecture: 'smollm3', activation: 'silu', adjacentPairs: true, biases: [] },
  granite: { architecture: 'granite', activation: 'silu', adjacentPairs: true, hasFactors: true },
  granitemoehybrid: {
    architecture: 'granite',
    activation: 'silu',
    adjacentPairs: true,
    hasFactors: true,
    ropeIsChoice: true,
    splitsGateUp: true,
    biases: ['queryKeyValue', 'attentionOutput'],
  },
  qwen2: { architecture: 'qwen2', activation: 'silu', headsFillHidden: true },
  qwen3: { architecture: 'qwen3', activation: 'silu', biases: [] },
  qwen3_5_text: {
    architecture: 'qwen35',
    activation: 'silu',
    biases: [],
    hasLinearAttention: true,
    mlpNorm: 'post_attention_norm',
  },
  phi3: { architecture: 'phi3', activation: 'silu', headsFillHidden: true },
  gemma2: { architecture: 'gemma2', activation: 'gelu_tanh', biases: [] },
  gpt2: { architecture: 'gpt2', activation: 'gelu_tanh' },
  gemma3_text: { architecture: 'gemma3', activation: 'gelu_tanh', biases: ['queryKeyValue'], hasWindows: true },
  olmo2: { architecture: 'olmo2', activation: 'silu', headsFillHidden: true, biases: [], ownHead: true },
  olmo3: {
    architecture: 'olmo2',
    activation: 'silu',
    headsFillHidden: true,
    biases: ['queryKeyValue'],
    ownHead: true,
    hasWindows: true,
  },
  exaone4: { architecture: 'exaone4', activation: 'silu', headsFillHidden: true, biases: [], hasWindows: true },
  arcee: { architecture: 'arcee', activation: 'relu2', adjacentPairs: true, biases: ['queryKeyValue'] },
  nemotron: { architecture: 'nemotron', activation: 'relu2', headsFillHidden: true, ownHead: true },
  ernie4_5: { architecture: 'ernie4_5', activation: 'silu', biases: ['queryKeyValue', 'attentionOutput'] },
  glm: { architecture: 'chatglm', activation: 'silu', headsFillHidden: true, biases: ['queryKeyValue'] },
  glm4: { architecture: 'glm4', activation: 'silu', biases: ['queryKeyValue'] },
  seed_oss: {
    architecture: 'seed_oss',
    activation: 'silu',
    biases: ['queryKeyValue'],
    mlpNorm: 'post_attention_norm',
  },
};
