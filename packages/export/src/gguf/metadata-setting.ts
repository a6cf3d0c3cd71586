import type { MetadataValue } from './gguf-layout.js';

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
