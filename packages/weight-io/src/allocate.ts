import { addon } from './addon.js';

/**
 * Memory from the system for large arrays, in huge pages where it has them. It starts at a multiple of 64 bytes, is zero,
 * and is returned to the system when the array is collected.
 *
 * @param bytes - At most 2^32, the limit of a typed array on Node 20.
 * @throws RangeError when the system has no memory for it
 */
export function allocate(bytes: number): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(bytes) || bytes < 0 || bytes > 2 ** 32) throw new RangeError(`cannot allocate ${bytes} bytes`);
  return new Uint8Array(addon.allocate(bytes));
}
