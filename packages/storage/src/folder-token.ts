import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomic } from './write-file-atomic.js';

const TOKEN_FILE = '.registry-token';
const TOKEN = /^[0-9a-f]{64}$/;

/**
 * Writes a new random token into the data folder, for its user alone. Another process that knows it reads the same folder,
 * wherever it runs: a copy of the folder has an earlier token. So the registry knows the api by it, too.
 * @throws ProductError `storage_full`
 */
export async function writeFolderToken(dataDir: string): Promise<string> {
  const token = randomBytes(32).toString('hex');
  await writeFileAtomic(path.join(dataDir, TOKEN_FILE), token, 0o600);
  return token;
}

/** The token in the data folder; null if there is none that this process can read. */
export async function readFolderToken(dataDir: string): Promise<string | null> {
  const token = await readFile(path.join(dataDir, TOKEN_FILE), 'latin1').catch(() => '');
  return TOKEN.test(token) ? token : null;
}
