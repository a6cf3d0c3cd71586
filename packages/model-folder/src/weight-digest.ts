import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from './model-folder.js';
import { asModelError, type WeightFile } from './weight-files.js';

/** Beside the weights, where every process and job finds it. A read-only folder has none. */
const SIDECAR = '.lorasmith-digest.json';

interface FileDigest {
  name: string;
  /** Size and times of the file when it was hashed. If they change, it is hashed again. */
  state: string;
  sha256: string;
}

/**
 * The sha256 of a model's weights, hexadecimal. For a single file, it is the file's sha256, as the Hugging Face hub shows it.
 * For several, it is the output of `sha256sum FILE… | sha256sum` with the files sorted by name.
 *
 * Hashes are stored in `.lorasmith-digest.json` in the model's folder. A stored hash is used if the file's size, modification
 * time and change time are the same.
 *
 * @throws ProductError model_file_corrupt when a file cannot be read; cancelled when the signal is aborted
 */
export async function digestWeights(folder: ModelFolder, { signal }: { signal?: AbortSignal } = {}): Promise<string> {
  const known = await readSidecar(folder.path);
  const digests: FileDigest[] = [];
  for (const file of folder.files) {
    try {
      digests.push(await digestFile(file, known, signal));
    } catch (error) {
      if (signal?.aborted) throw new ProductError('cancelled', `Hashing was stopped (${String(signal.reason)}).`);
      throw asModelError(error, folder.path, file.name);
    }
  }
  if (digests.some((digest) => !known.includes(digest))) await writeSidecar(folder.path, digests);
  if (digests.length === 1) return digests[0]!.sha256;
  const list = digests.map(({ name, sha256 }) => `${sha256}  ${name}\n`).join('');
  return createHash('sha256').update(list).digest('hex');
}

async function digestFile({ name, path }: WeightFile, known: FileDigest[], signal?: AbortSignal): Promise<FileDigest> {
  const status = await stat(path);
  const state = `${status.size} ${status.mtimeMs} ${status.ctimeMs}`;
  const stored = known.find((digest) => digest.name === name && digest.state === state);
  if (stored) return stored;
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 2 ** 20, signal })) hash.update(piece as Buffer);
  return { name, state, sha256: hash.digest('hex') };
}

async function readSidecar(folder: string): Promise<FileDigest[]> {
  try {
    const digests: unknown = JSON.parse(await readFile(join(folder, SIDECAR), 'utf8'));
    return Array.isArray(digests) ? digests.filter(isFileDigest) : [];
  } catch {
    return [];
  }
}

function isFileDigest(value: unknown): value is FileDigest {
  const { name, state, sha256 } = (value ?? {}) as Partial<FileDigest>;
  return typeof name === 'string' && typeof state === 'string' && /^[0-9a-f]{64}$/.test(String(sha256));
}

async function writeSidecar(folder: string, digests: FileDigest[]): Promise<void> {
  const path = join(folder, SIDECAR);
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await writeFile(temporary, JSON.stringify(digests));
    await rename(temporary, path);
  } catch {
    // In a read-only models folder, the next process hashes the files again.
    await rm(temporary, { force: true }).catch(() => {});
  }
}
