import { type FileHandle, open } from 'node:fs/promises';
import { addon, systemError } from './addon.js';

/**
 * The sha256 of a file, hexadecimal. It is computed on another thread.
 *
 * @throws the system's error when the file cannot be read
 */
export async function hashFile(path: string): Promise<string> {
  const handle: FileHandle = await open(path, 'r');
  try {
    return await addon.hashFile(handle.fd);
  } catch (error) {
    throw systemError(error);
  } finally {
    await handle.close();
  }
}
