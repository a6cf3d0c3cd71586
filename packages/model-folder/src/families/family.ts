import type { Architecture } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';

/** What a family reads its architecture from. */
export interface FamilySource {
  /** config.json. */
  config: ConfigFields;
  /** generation_config.json, where there is one. */
  generation: ConfigFields | undefined;
  hasTensor(name: string): boolean;
}

/** A weight the architecture cannot do without. */
export interface RequiredTensor {
  name: string;
  shape: readonly number[];
}

/** A linear layer, and where its numbers lie. */
export interface LinearLayer {
  /** Its module path, as PEFT sees it. */
  name: string;
  inFeatures: number;
  outFeatures: number;
  /** Name of the tensor `[out, in]`, or `[in, out]` where `transposed`. */
  weight: string;
  /** Name of the tensor `[out]`; null for a layer without bias. */
  bias: string | null;
  transposed: boolean;
}

/** What an architecture is made of. */
export interface ModelLayout {
  /** Every weight, in the order of the forward pass. */
  tensors: RequiredTensor[];
  /** Every linear layer but the output head. */
  linears: LinearLayer[];
  /** The output head, tied or not; null where the last layer is one like the others. */
  head: LinearLayer | null;
}

/** One `model_type` of config.json. A new family is a file beside this one and a line in family-registry.ts. */
export interface Family<Kind extends Architecture = Architecture> {
  /**
   * @throws ProductError model_file_corrupt for a value that makes no sense, model_not_supported for one that this
   *   product cannot train, by the field's name
   */
  readArchitecture(source: FamilySource): Kind;
  layout(architecture: Kind): ModelLayout;
}

/** The tensors of a linear layer. */
export function linearTensors({ weight, bias, inFeatures, outFeatures, transposed }: LinearLayer): RequiredTensor[] {
  const shape = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  return [{ name: weight, shape }, ...(bias === null ? [] : [{ name: bias, shape: [outFeatures] }])];
}
