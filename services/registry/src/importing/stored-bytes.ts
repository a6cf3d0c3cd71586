import { ProductError } from '@lorasmith/contracts';
import type { FreeBytes } from '@lorasmith/service-kit';

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
