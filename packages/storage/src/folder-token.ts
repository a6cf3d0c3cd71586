import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { isAbsent } from './storage-error.js';
import { writeFileAtomic } from './write-file-atomic.js';

const TOKEN_FILE = '.registry-token';
const TOKEN = /^[0-9a-f]{32}$/;

/**
 * Writes a new random token into the data folder. Another process that knows it reads the same folder, wherever it runs: a
 * copy of the folder has an earlier token.
 */
export async function writeFolderToken(dataDir: string): Promise<string> {
  const token = randomBytes(16).toString('hex');
  await writeFileAtomic(path.join(dataDir, TOKEN_FILE), token);
  return token;
}

/** The token in the data folder; null if there is none. */
export async function readFolderToken(dataDir: string): Promise<string | null> {
  try {
    const token = await readFile(path.join(dataDir, TOKEN_FILE), 'latin1');
    return TOKEN.test(token) ? token : null;
  } catch (error) {
    if (isAbsent(error)) return null;
    throw error;
  }
}
