import type { MetadataValue } from './gguf-layout.js';

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
  const text = (value: string): MetadataValue => ({ type: 'string', value });
  return [
    ['general.architecture', text(architecture)],
    ['general.type', text(type)],
    ['general.name', text(name)],
    ['general.base_model.count', { type: 'uint32', value: 1 }],
    ['general.base_model.0.name', text(baseModel)],
    ['general.quantization_version', { type: 'uint32', value: QUANTIZATION_VERSION }],
  ];
}
