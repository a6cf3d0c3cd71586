import { ProductError } from '@lorasmith/contracts';
import type { FreeBytes } from '@lorasmith/service-kit';

/** What an adapter may take once it is stored, which may be many times what came. */
export interface StoredBounds {
  /** Of any import. */
  maxBytes: number;
  /** That there is for this one. */
  room: FreeBytes;
}

/** @throws ProductError `invalid_adapter`, `quota_exceeded`, `storage_full` */
export function checkStoredBytes(bytes: number, { maxBytes, room }: StoredBounds): void {
  const takes = `In float32, with its largest rank in all layers, this adapter takes ${bytes} bytes`;
  if (bytes > maxBytes) {
    const advice = 'Use more similar ranks for its layers, or ask the operator to raise IMPORT_MAX_BYTES.';
    throw new ProductError('invalid_adapter', `${takes}; the limit is ${maxBytes}. ${advice}`);
  }
  if (bytes > room.own) {
    const advice = 'Delete some adapters, or wait for jobs to end, first.';
    throw new ProductError('quota_exceeded', `${takes}, and this key has room for ${room.own}. ${advice}`);
  }
  if (bytes > room.total) {
    throw new ProductError('storage_full', `${takes}, and there is room for ${room.total} among all adapters.`);
  }
}
