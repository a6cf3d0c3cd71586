import type { AdapterManifest } from '@lorasmith/contracts';
import type { Activation, Architecture, DecoderArchitecture, RopeScaling } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';

/** The types of weights in 4 bits with a table of their own, as manifests name them. */
export type FourBitType = NonNullable<AdapterManifest['base_model']['quantization']>['type'];

/** The types of quantized weights, as the API names them. */
export type QuantizedType = FourBitType | 'fp8' | 'mxfp4';

/** The input from which a family reads its architecture. */
export interface FamilySource {
  /** config.json. */
  config: ConfigFields;
  /** generation_config.json, if present. */
  generation: ConfigFields | undefined;
  hasTensor(name: string): boolean;
}

/** A tensor that the architecture requires. */
export interface RequiredTensor {
  name: string;
  shape: readonly number[];
  /** It is made of bytes: codes or scales of so many numbers of a weight that the layout itself has quantized. @defaultValue it is made of floats */
  packed?: { type: QuantizedType; numbers: number } | undefined;
}

/** A linear layer and its tensors. */
export interface LinearLayer {
  /** Its module path in PEFT. */
  name: string;
  inFeatures: number;
  outFeatures: number;
  /** Name of the tensor `[out, in]`, or `[in, out]` if `transposed`. */
  weight: string;
  /** Name of the tensor `[out]`; null for a layer without bias. */
  bias: string | null;
  transposed: boolean;
}

/** The weights of all experts of a layer, which are one parameter in PEFT. */
export interface ExpertParameter {
  /** Its path in PEFT, for instance `model.layers.0.mlp.experts.gate_up_proj`. */
  name: string;
  experts: number;
  /** The inputs of each expert. */
  inFeatures: number;
  /** The outputs of each expert. */
  outFeatures: number;
  /** The tensors of its numbers `[experts, out, in]`, one behind the other: one tensor, or those of each expert; or codes and scales. */
  tensors: RequiredTensor[];
  /**
   * The matrices whose rows lie below each other in an expert: gate and up are two, also where they are one tensor, and one where
   * their rows alternate. @defaultValue 1
   */
  projections?: number | undefined;
  /** Its tensor is `[experts, in, out]`, also of codes and scales once they are decoded and merged. @defaultValue false */
  transposed?: boolean | undefined;
}

/** The tensors and linear layers of an architecture. */
export interface ModelLayout {
  /** Every tensor, in the order of the forward pass. */
  tensors: RequiredTensor[];
  /** Every linear layer except the output head. */
  linears: LinearLayer[];
  /** The parameters of experts, in the order of the forward pass. @defaultValue none */
  parameters?: ExpertParameter[];
  /** The output head, tied or not; null if the last layer is not special. */
  head: LinearLayer | null;
  /** Tensors that the files must not have besides the others, and what is wrong with each. @defaultValue none */
  contradicting?: ReadonlyMap<string, string>;
}

/** A `model_type` of config.json. To add a family, add a file to this folder, or an entry to one, and a line to family-registry.ts. */
export interface Family<Kind extends Architecture = Architecture> {
  /** The models that it covers, for the table in docs/base-models.md; null: it has no line there. */
  covers: string | null;
  /** Its model in llama.cpp. @defaultValue packages/export has it, or it is not written as GGUF */
  gguf?: GgufModel;
  /**
   * @throws ProductError naming the field: model_file_corrupt for an invalid value, model_not_supported for a value that
   *   Lorasmith cannot train
   */
  readArchitecture(source: FamilySource): Kind;
  /** True if it reads `per_layer_config`. Without that, layers with configs of their own are refused. @defaultValue false */
  readsLayerConfigs?: boolean;
  /** Classes that `auto_map` may name: the code that comes with a model's files says what the family computes, and is never run. @defaultValue none */
  knownCode?: ReadonlySet<string>;
  /** True if its experts may be in MXFP4. Without that, a config that says so is refused. @defaultValue false */
  readsMxfp4?: boolean;
  layout(architecture: Kind): ModelLayout;
}

/** The tensors of a linear layer. */
export function linearTensors({ weight, bias, inFeatures, outFeatures, transposed }: LinearLayer): RequiredTensor[] {
  const shape = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  return [{ name: weight, shape }, ...(bias === null ? [] : [{ name: bias, shape: [outFeatures] }])];
}

type Projections = keyof DecoderArchitecture['bias'];

/** The types of RoPE scaling that llama.cpp reads as a factor of each frequency. */
type RopeFactors = Extract<RopeScaling['type'], 'llama3' | 'longrope' | 'proportional'>;

/** The model that llama.cpp computes for a family, as far as it is data: packages/export writes it. */
export interface GgufModel {
  /** `general.architecture`. */
  architecture: string;
  /** The activation, whatever config.json says. */
  activation: Activation;
  /** True if the heads together must have the size of the hidden state. @defaultValue false */
  headsFillHidden?: boolean;
  /** True if layers can have windows. Without them, the longest text is the window. @defaultValue false */
  hasWindows?: boolean;
  /** True if the output head must have a tensor of its own. @defaultValue false */
  ownHead?: boolean;
  /** The linear layers that may have a bias. @defaultValue all */
  biases?: readonly Projections[];
  /**
   * True if adjacent pairs rotate, where transformers rotates the two halves of a head (`LlamaModel.permute` in
   * convert_hf_to_gguf.py). @defaultValue false
   */
  adjacentPairs?: boolean;
  /** @defaultValue none */
  ropeFactors?: readonly RopeFactors[];
  /**
   * True if it is written though llama.cpp rounds the bounds of YaRN's ramp and the model does not (`truncate: false`): all files of
   * the family are so. @defaultValue false
   */
  roundsYarn?: boolean;
  /**
   * True if llama.cpp leaves queries and keys as long as they are with YaRN, and multiplies the scores by what a setting of the family
   * says. @defaultValue false
   */
  yarnKeepsLength?: boolean;
  /** True if gate and up, which are one layer in the weight files, are two tensors. @defaultValue false */
  splitsGateUp?: boolean;
  /** The name of the norm of what the MLP reads. @defaultValue ffn_norm */
  mlpNorm?: string;
  /** The experts that llama.cpp has. @defaultValue models with experts are not written */
  experts?: {
    /** True if the weights of a token's experts sum to one; null: the file says it. */
    renormalized: boolean | null;
    /** True if the first layers may have none. @defaultValue false */
    firstDense?: boolean;
    /** True if models without experts are written, too. @defaultValue false */
    optional?: boolean;
    /** True if gate and up of an expert are one tensor. @defaultValue false */
    fusesGateUp?: boolean;
  };
  /** The model of a tokenizer that merges characters and falls back to bytes (`tokenizer.ggml.model`). @defaultValue llama */
  characterTokenizer?: 'llama' | 'gemma4';
}
