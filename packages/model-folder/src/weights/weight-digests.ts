import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from '../model-folder.js';
import { readWeights } from './read-weights.js';
import { asModelError } from './weight-files.js';

/** The folder of DATA_DIR in which digests are remembered. */
export const WEIGHT_DIGESTS_FOLDER = 'weight-digests';

/**
 * A file that was written less than this before it was looked at may change again without a new time: file systems count
 * time in steps of up to 2 s.
 */
const CLOCK_STEP_MS = 2_000;

const SHA256 = /^[0-9a-f]{64}$/;

/** A mark by which the weight files of a model are known to be the same ones, without reading them. */
export interface WeightsState {
  /** Digest of the names, devices, inodes, sizes, modification and change times of all files. */
  key: string;
  /** True if every later change changes the key: false for files that have only just been written. */
  settled: boolean;
}

export interface WeightDigestsOptions {
  /** One entry is one model. When there are more, those used longest ago are removed. @defaultValue 1,000 */
  maxEntries?: number;
  /** Milliseconds since 1970. @defaultValue Date.now */
  now?: () => number;
}

/**
 * The sha256 of base models' weights. For a single file, it is the file's sha256, as the Hugging Face hub shows it. For several, it
 * is the output of `sha256sum FILE… | sha256sum` with the files sorted by name.
 *
 * Digests are remembered in a folder, which several processes may share, each in a file whose name is the {@link WeightsState}.
 */
export class WeightDigests {
  readonly #folder: string | null;
  readonly #maxEntries: number;
  readonly #now: () => number;

  /** @param folder created if it is missing; null: nothing is remembered */
  constructor(folder: string | null, { maxEntries = 1_000, now = Date.now }: WeightDigestsOptions = {}) {
    this.#folder = folder;
    this.#maxEntries = maxEntries;
    this.#now = now;
  }

  /** @throws ProductError model_file_missing, model_file_corrupt */
  async state(model: ModelFolder): Promise<WeightsState> {
    const now = this.#now();
    const states: string[] = [];
    let settled = true;
    for (const { name, path } of model.files) {
      const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true }).catch((error) => {
        throw asModelError(error, model.path, name);
      });
      states.push(`${name} ${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`);
      // Every change sets the change time, which no program can choose.
      settled &&= Number(ctimeNs / 1_000_000n) < now - CLOCK_STEP_MS;
    }
    return { key: createHash('sha256').update(states.join('\n')).digest('hex'), settled };
  }

  /** @throws ProductError model_file_corrupt when a file has changed since the state was taken */
  async requireUnchanged(model: ModelFolder, { key }: WeightsState): Promise<void> {
    if ((await this.state(model)).key === key) return;
    throw new ProductError('model_file_corrupt', `${model.name} has changed while it was in use. Start again.`);
  }

  /** The remembered digest of weights in this state; null if there is none. */
  async recall({ key }: WeightsState): Promise<string | null> {
    if (this.#folder === null) return null;
    const file = join(this.#folder, key);
    const text = await readFile(file, 'utf8').catch(() => '');
    if (!SHA256.test(text)) return null;
    const now = new Date(this.#now());
    await utimes(file, now, now).catch(() => {});
    return text;
  }

  /** Remembers a digest, unless the files may change again unseen. It is not an error if it cannot be stored. */
  async remember({ key, settled }: WeightsState, sha256: string): Promise<void> {
    if (this.#folder === null || !settled) return;
    const temporary = join(this.#folder, `.${key}-${randomBytes(6).toString('hex')}`);
    try {
      await mkdir(this.#folder, { recursive: true });
      await writeFile(temporary, sha256);
      await rename(temporary, join(this.#folder, key));
      await this.#removeOldest(this.#folder);
    } catch {
      // The next process computes the digest again.
      await rm(temporary, { force: true }).catch(() => {});
    }
  }

  /** The remembered digest of a model's weights, of which nothing is read; null if it would have to be computed. */
  async known(model: ModelFolder): Promise<string | null> {
    return await this.recall(await this.state(model));
  }

  /**
   * The digest of a model's weights: remembered, or computed from the files.
   * @throws ProductError model_file_missing, model_file_corrupt when a file cannot be read or changes; cancelled when the signal is aborted
   */
  async compute(model: ModelFolder, { signal }: { signal?: AbortSignal } = {}): Promise<string> {
    const state = await this.state(model);
    const recalled = await this.recall(state);
    if (recalled !== null) return recalled;
    const onRead = () => {
      if (signal?.aborted) throw new ProductError('cancelled', `Hashing was stopped (${String(signal.reason)}).`);
    };
    onRead();
    const digests = await readWeights(model, [], { hash: true, onRead });
    await this.requireUnchanged(model, state);
    const digest = digestOfFiles(model, digests!);
    await this.remember(state, digest);
    return digest;
  }

  async #removeOldest(folder: string): Promise<void> {
    const names = await readdir(folder);
    if (names.length <= this.#maxEntries) return;
    const entries: { path: string; usedAtMs: number }[] = [];
    for (const name of names) {
      const path = join(folder, name);
      const status = await stat(path).catch(() => null);
      if (status !== null) entries.push({ path, usedAtMs: status.mtimeMs });
    }
    entries.sort((a, b) => b.usedAtMs - a.usedAtMs);
    for (const { path } of entries.slice(this.#maxEntries)) await rm(path, { force: true });
  }
}

/**
 * The digest of a model's weights.
 * @param digests sha256 of each of its files, in their order
 */
export function digestOfFiles({ files }: Pick<ModelFolder, 'files'>, digests: readonly string[]): string {
  if (files.length === 1) return digests[0]!;
  const list = files.map(({ name }, i) => `${digests[i]!}  ${name}\n`).join('');
  return createHash('sha256').update(list).digest('hex');
}
