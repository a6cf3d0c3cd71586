import { type AdapterManifest, ProductError } from '@lorasmith/contracts';
import type { FreeBytes } from '@lorasmith/service-kit';

/** The only request to an import process. All paths are absolute. */
export interface ImportRequest {
  /** Contains the two PEFT files as received. */
  adapterFolder: string;
  /** Empty; receives the two rewritten files. */
  outputFolder: string;
  modelsDir: string;
  baseModel: string;
  /** The folder in which digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  bounds: StoredBounds;
}

/** Describes the rewritten adapter. */
export type ImportResult = Pick<AdapterManifest, 'base_model' | 'lora' | 'files'>;

/** Limits for the size of an adapter as it is stored, which can be many times the size of its tar. */
export interface StoredBounds {
  /** Maximum size of any import. */
  maxBytes: number;
  /** Free bytes for this import. */
  freeBytes: FreeBytes;
}

/** @throws ProductError `invalid_adapter`, `quota_exceeded`, `storage_full` */
export function checkStoredBytes(bytes: number, { maxBytes, freeBytes }: StoredBounds): void {
  const needs = `In float32, with its largest rank in all layers, this adapter needs ${bytes} bytes`;
  if (bytes > maxBytes) {
    const advice = 'Use more similar ranks for its layers, or ask the operator to raise IMPORT_MAX_BYTES.';
    throw new ProductError('invalid_adapter', `${needs}; the limit is ${maxBytes}. ${advice}`);
  }
  if (bytes > freeBytes.own) {
    const advice = 'First delete some adapters, or wait for jobs to end.';
    throw new ProductError('quota_exceeded', `${needs}; the quota of this key has ${freeBytes.own} left. ${advice}`);
  }
  if (bytes > freeBytes.total) {
    throw new ProductError('storage_full', `${needs}; the limit of all adapters has ${freeBytes.total} left.`);
  }
}
