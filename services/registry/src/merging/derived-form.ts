import { type AdapterFilesQuery, type AdapterManifest, ProductError } from '@lorasmith/contracts';
import type { GgufType } from '@lorasmith/export';
import type { Static } from 'typebox';

/**
 * A form that is computed from an adapter and its base model, and kept: the merged model, either as GGUF, or an adapter of experts with
 * layers of each expert.
 */
export type DerivedForm =
  | { format: 'safetensors' }
  | { format: 'gguf'; weights: 'adapter' | 'merged'; type: GgufType }
  | { format: 'per-expert' };

export const MERGED: DerivedForm = { format: 'safetensors' };
export const PER_EXPERT: DerivedForm = { format: 'per-expert' };

/**
 * The form that a query asks for; null for the adapter itself, which is not computed.
 * @throws ProductError `invalid_request` for a type without `format=gguf`, and for a layout of anything but the adapter
 */
export function formOf({ weights = 'adapter', layout = 'peft', format, type }: FormQuery): DerivedForm | null {
  if (layout === 'per-expert') {
    if (weights === 'adapter' && format !== 'gguf') return PER_EXPERT;
    const message = "layout=per-expert is for the adapter's own files. Leave out weights=merged and format=gguf.";
    throw new ProductError('invalid_request', message, { param: 'layout' });
  }
  if (format === 'gguf') {
    const wanted = type ?? (weights === 'adapter' ? 'f32' : 'f16');
    return { format, weights, type: wanted.toUpperCase() as GgufType };
  }
  if (type !== undefined) {
    throw new ProductError('invalid_request', 'type is only for format=gguf. Add format=gguf.', { param: 'type' });
  }
  return weights === 'merged' ? MERGED : null;
}

/** The part of a query that names a form. */
export type FormQuery = Pick<Static<typeof AdapterFilesQuery>, 'weights' | 'layout' | 'type'> & { format?: string };

/** The id of the bundle in the cache. It starts with that of the adapter. */
export function bundleIdOf(adapter: string, form: DerivedForm): string {
  switch (form.format) {
    case 'safetensors':
      return adapter;
    case 'per-expert':
      return `${adapter}.per-expert`;
    case 'gguf':
      return `${adapter}.${form.weights}-${form.type.toLowerCase()}`;
  }
}

/** The adapter of a bundle in the cache. */
export function adapterOf(bundle: string): string {
  return bundle.split('.', 1)[0]!;
}

/** Name of the GGUF file. */
export function ggufFileName(adapter: string, { weights, type }: Extract<DerivedForm, { format: 'gguf' }>): string {
  return `${adapter}-${weights}-${type.toLowerCase()}.gguf`;
}

/** The only request to a merge process. All paths are absolute. */
export interface MergeRequest {
  /** The base model. */
  modelFolder: string;
  /** The manifest of the adapter. */
  manifest: AdapterManifest;
  form: DerivedForm;
  /** A PEFT folder. */
  adapterFolder: string;
  /** The folder in which digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  /** Empty; receives the files. */
  outputFolder: string;
}

/** Progress of the merge process. Its result is the list of written files. */
export interface MergeProgress {
  doneBytes: number;
  totalBytes: number;
}
