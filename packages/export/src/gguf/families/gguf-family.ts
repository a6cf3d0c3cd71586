import type { Activation, DecoderArchitecture, RopeScaling } from '@lorasmith/model-folder';
import type { Setting } from '../metadata-setting.js';
import type { RefuseIf } from '../refuse.js';

type Projections = keyof DecoderArchitecture['bias'];

/** The types of RoPE scaling that llama.cpp reads as a factor of each frequency. */
export type RopeFactors = Extract<RopeScaling['type'], 'llama3' | 'longrope' | 'proportional'>;

/** The model that llama.cpp computes for a family, and what its files say. To add one, add it to gguf-families.ts. */
export interface GgufFamily {
  /** `general.architecture`. */
  architecture: string;
  /** The activation, whatever config.json says. */
  activation: Activation;
  /** The factor of the attention scores; null: the file says it. @defaultValue 1 / √headDim */
  scoreScale?(architecture: DecoderArchitecture): number | null;
  /** Whether the heads together must have the size of the hidden state. @defaultValue false */
  headsFillHidden?: boolean;
  /** Whether layers can have windows. Without them, the longest text is the window. @defaultValue false */
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
  /** @defaultValue none */
  ropeFactors?: readonly RopeFactors[];
  /**
   * Whether it is written though llama.cpp rounds the bounds of YaRN's ramp and the model does not (`truncate: false`): all files of
   * the family are so. @defaultValue false
   */
  roundsYarn?: boolean;
  /**
   * Whether llama.cpp leaves queries and keys as long as they are with YaRN, and multiplies the scores by what a setting of the family
   * says. @defaultValue false
   */
  yarnKeepsLength?: boolean;
  /** Whether gate and up, which are one layer in the weight files, are two tensors. @defaultValue false */
  splitsGateUp?: boolean;
  /** The name of the norm of what the MLP reads. @defaultValue ffn_norm */
  mlpNorm?: string;
  /** The experts that llama.cpp has. @defaultValue models with experts are not written */
  experts?: {
    /** Whether the weights of a token's experts sum to one; null: the file says it. */
    renormalized: boolean | null;
    /** Whether the first layers may have none. @defaultValue false */
    firstDense?: boolean;
    /** Whether models without experts are written, too. @defaultValue false */
    optional?: boolean;
    /** Whether gate and up of an expert are one tensor. @defaultValue false */
    fusesGateUp?: boolean;
  };
  /** The model of a tokenizer that merges characters and falls back to bytes (`tokenizer.ggml.model`). @defaultValue llama */
  characterTokenizer?: 'llama' | 'gemma4';
  /** The settings beside those of every decoder. @defaultValue none */
  settings?(architecture: DecoderArchitecture): Setting[];
  /** Checks that llama.cpp computes windows, positions and what else is the family's own. @defaultValue checkOneRope */
  check?(architecture: DecoderArchitecture, refuseIf: RefuseIf): void;
}
