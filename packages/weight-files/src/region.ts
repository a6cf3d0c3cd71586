import { addon } from './addon.js';

/** Memory that weights are read into. It is returned to the system when the value is collected, unless it was given away. */
export interface Region {
  readonly bytes: number;
  /** The addon's. */
  readonly handle: object;
}

/**
 * Memory that starts at a multiple of the page size and costs nothing until it is filled.
 * @throws RangeError when the system has no memory for it
 */
export function createRegion(bytes: number): Region {
  if (!Number.isSafeInteger(bytes) || bytes < 0) throw new RangeError(`cannot allocate ${bytes} bytes`);
  return { bytes, handle: addon.createRegion(bytes) };
}

/** Gives the memory to the caller, who frees it with `munmap(address, bytes)`. The region cannot be used any more. */
export function giveAway({ bytes, handle }: Region): { address: bigint; bytes: number } {
  return { address: addon.giveAway(handle), bytes };
}
