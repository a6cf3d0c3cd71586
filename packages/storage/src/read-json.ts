import type { FileHandle } from 'node:fs/promises';

/** Limit for JSON files. Even the manifest of an adapter for a large model, with every module and loss, is smaller. */
export const MAX_JSON_BYTES = 16 * 1024 * 1024;

/** @throws Error for a file that is too large to be read as JSON */
export function checkJsonSize(sizeBytes: number): void {
  if (sizeBytes > MAX_JSON_BYTES) throw new Error(`${sizeBytes} bytes; at most ${MAX_JSON_BYTES} are read`);
}

/** Reads a JSON file of at most {@link MAX_JSON_BYTES}. @throws Error when it is larger, or not JSON */
export async function readJsonFrom(handle: FileHandle): Promise<unknown> {
  checkJsonSize((await handle.stat()).size);
  return JSON.parse(await handle.readFile('utf8'));
}
