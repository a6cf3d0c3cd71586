import { type AdapterFilesQuery, ProductError } from '@lorasmith/contracts';
import type { GgufType } from '@lorasmith/export';
import type { Static } from 'typebox';

/** A form that is computed from an adapter and its base model, and kept: the merged model, or either as GGUF. */
export type DerivedForm = { format: 'safetensors' } | { format: 'gguf'; weights: 'adapter' | 'merged'; type: GgufType };

export const MERGED: DerivedForm = { format: 'safetensors' };

/**
 * The form that a query asks for; null for the adapter itself, which is not computed.
 * @throws ProductError `invalid_request` for a type without `format=gguf`
 */
export function formOf({ weights = 'adapter', format, type }: FormQuery): DerivedForm | null {
  if (format === 'gguf') {
    const wanted = type ?? (weights === 'adapter' ? 'f32' : 'f16');
    return { format, weights, type: wanted.toUpperCase() as GgufType };
  }
  if (type !== undefined) {
    throw new ProductError('invalid_request', 'type is only for format=gguf. Add format=gguf.', { param: 'type' });
  }
  return weights === 'merged' ? MERGED : null;
}

type FormQuery = Pick<Static<typeof AdapterFilesQuery>, 'weights' | 'type'> & { format?: string };

/** The id of the bundle in the cache. It starts with that of the adapter. */
export function bundleIdOf(adapter: string, form: DerivedForm): string {
  return form.format === 'safetensors' ? adapter : `${adapter}.${form.weights}-${form.type.toLowerCase()}`;
}

/** The adapter of a bundle in the cache. */
export function adapterOf(bundle: string): string {
  return bundle.split('.', 1)[0]!;
}

/** Name of the GGUF file. */
export function ggufFileName(adapter: string, { weights, type }: Extract<DerivedForm, { format: 'gguf' }>): string {
  return `${adapter}-${weights}-${type.toLowerCase()}.gguf`;
}
