import { ProductError } from '@lorasmith/contracts';
import type { MetadataValue } from './gguf-file.js';

/** A setting of a model as metadata. The key is without the architecture in front, for instance `block_count`. */
export type Setting = [key: string, value: MetadataValue];

export const uint = (value: number): MetadataValue => ({ type: 'uint32', value });
export const float = (value: number): MetadataValue => ({ type: 'float32', value });
export const bool = (value: boolean): MetadataValue => ({ type: 'bool', value });
export const text = (value: string): MetadataValue => ({ type: 'string', value });

/** A number that all layers have, or the list of those of each layer. */
export function ofLayers(values: readonly number[]): MetadataValue {
  return new Set(values).size === 1 ? uint(values[0]!) : { type: 'int32s', value: values };
}

/** The description of a file by itself (`general.*`). */
export interface GgufDescription {
  /** Name of the model. */
  name: string;
  /** Name of the base model of the adapter. */
  baseModel: string;
}

/** `general.quantization_version`. */
const QUANTIZATION_VERSION = 2;

export function generalMetadata(
  architecture: string,
  type: 'model' | 'adapter',
  { name, baseModel }: GgufDescription,
): [key: string, value: MetadataValue][] {
  return [
    ['general.architecture', text(architecture)],
    ['general.type', text(type)],
    ['general.name', text(name)],
    ['general.base_model.count', uint(1)],
    ['general.base_model.0.name', text(baseModel)],
    ['general.quantization_version', uint(QUANTIZATION_VERSION)],
  ];
}

/** The error for something of a base model that llama.cpp, or its file format, cannot express. */
export function inexpressible(model: string, what: string): ProductError {
  return new ProductError('model_not_supported', `${model} cannot be written as GGUF: ${what}.`);
}

/** Refuses a model, on a condition, for something that llama.cpp does not have in its family. */
export type RefuseIf = (condition: boolean, what: string) => void;
