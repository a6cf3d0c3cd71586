import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type AdapterManifest, ProductError } from '@lorasmith/contracts';
import type { Architecture, DecoderArchitecture, Mixer, Mlp } from './architecture.js';
import { onLoad } from './base-quantization.js';
import { mixersOf } from './layer-kinds/mixer-kinds.js';
import { hasExperts } from './layer-kinds/sparse.js';
import type { ModelFolder } from './model-folder.js';
import { asModelError } from './weights/locate-tensors.js';
import { readWeights } from './weights/read-weights.js';

/** Identifies a base model in manifests and checkpoints. */
export type BaseDigests = Pick<AdapterManifest['base_model'], 'weights_sha256' | 'architecture_sha256'>;

/** @throws as WeightDigests.compute */
export async function digestBase(
  model: ModelFolder,
  digests: WeightDigests,
  options: { signal?: AbortSignal } = {},
): Promise<BaseDigests> {
  return {
    weights_sha256: await digests.compute(model, options),
    architecture_sha256: digestArchitecture(model.architecture),
  };
}

/** A base model by its name and digests, and the form in which it is computed with. */
export type BaseIdentity = BaseDigests & Pick<AdapterManifest['base_model'], 'name' | 'quantization'>;

/**
 * Explains why an adapter or checkpoint does not fit a base model: its name, weights or config.json differ. Properties that
 * `now` lacks are not compared.
 *
 * @param what - The subject of the sentence, for instance `ad_…` or `The checkpoint of step 50`.
 * @returns a sentence, or null if it fits
 */
export function baseMismatch(what: string, made: BaseIdentity, now: Partial<BaseIdentity>): string | null {
  const differs = (field: Exclude<keyof BaseIdentity, 'quantization'>) =>
    now[field] !== undefined && now[field] !== made[field];
  if (differs('name')) return `${what} was made for the base model ${made.name}, not for ${now.name}.`;
  if (differs('weights_sha256')) {
    return `${what} was made for other weights of ${made.name}, with the sha256 ${made.weights_sha256}; those on this host have ${now.weights_sha256}. Restore the original weights.`;
  }
  if (differs('architecture_sha256')) {
    return `${what} was made for another config.json of ${made.name}, which describes another architecture. Restore the original config.json.`;
  }
  if (now.quantization === undefined || onLoad(now.quantization) === onLoad(made.quantization)) return null;
  return `${what} was made for ${made.name} with base_quantization "${onLoad(made.quantization)}", not "${onLoad(now.quantization)}": use the same training.base_quantization.`;
}

/** Fields that do not change the model's outputs: they affect tokenization, the end of a text, or warnings. */
const IGNORED_FIELDS = ['bosTokenId', 'eosTokenIds', 'padTokenId', 'maxPositions', 'ignoredDropout'];

/**
 * A digest of the settings that affect the model's outputs, such as the norm's epsilon or the rotary positions.
 *
 * Checkpoints and manifests store the digest, so every release must compute the same one. Keys are sorted, and null counts
 * as absent: when you add a field, let null mean the previous behaviour.
 *
 * @returns sha256, hexadecimal
 */
export function digestArchitecture(architecture: Architecture): string {
  const described = architecture.kind === 'decoder' ? inDigestedForm(architecture) : architecture;
  const included = Object.fromEntries(Object.entries(described).filter(([field]) => !IGNORED_FIELDS.includes(field)));
  const canonical = JSON.stringify(included, (_key, node: unknown) => {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return node;
    const fields = Object.entries(node).filter(([, value]) => value !== null);
    return Object.fromEntries(fields.sort(([one], [other]) => (one < other ? -1 : 1)));
  });
  return createHash('sha256').update(canonical).digest('hex');
}

/**
 * A decoder in the form that digests are made of: the settings of latent and of linear attention and of experts once for all layers, and
 * in each layer those of scores, also where linear attention does not read them. A mixer or MLP of a later kind is there as it is.
 */
function inDigestedForm(architecture: DecoderArchitecture): object {
  const { layers, attention, mlp, ...others } = architecture;
  const ofLayer = (mixer: Mixer): object => {
    switch (mixer.kind) {
      case 'attention':
        return without(mixer, ['kind']);
      case 'latent':
        return { scale: mixer.scale, window: mixer.window, rope: mixer.rope };
      case 'linear':
        return { scale: 1 / Math.sqrt(others.headDim), window: null, rope: 0 };
      default:
        return mixer;
    }
  };
  const [latent] = mixersOf(architecture, 'latent');
  const [linear] = mixersOf(architecture, 'linear');
  const [experts] = layers.flatMap((layer) => (hasExperts(layer.mlp) ? [layer.mlp.experts] : []));
  return {
    ...others,
    attention: { ...attention, layers: layers.map((layer) => ({ ...ofLayer(layer.mixer), ...ofLaterMlp(layer.mlp) })) },
    mlp: { ...mlp, ...digestedWidths(architecture) },
    experts: experts && { ...experts, layers: layers.map((layer) => hasExperts(layer.mlp)) },
    latentAttention: latent && without(latent, ['kind', 'scale', 'window', 'rope']),
    linearAttention: linear && {
      ...without(linear, ['kind']),
      layers: layers.map(({ mixer }) => mixer.kind === 'linear'),
    },
  };
}

/** An MLP of a kind that was not yet there when digests were first made; nothing of the others. */
function ofLaterMlp(mlp: Mlp): object {
  switch (mlp.kind) {
    case 'dense':
    case 'sparse':
    case 'parallel':
      return {};
    default:
      return { mlp };
  }
}

/** The widths that MLPs have of their own: the layer from which on all are twice as wide as usual, or those of all layers. */
function digestedWidths({ layers, intermediateSize: usual }: DecoderArchitecture): object {
  const widths = layers.map(({ mlp }) => ('intermediateSize' in mlp ? (mlp.intermediateSize ?? null) : null));
  const first = widths.findIndex((width) => width !== null);
  if (first === -1) return {};
  return widths.slice(first).every((width) => width === 2 * usual) ? { doubledFrom: first } : { widths };
}

function without(fields: object, names: readonly string[]): object {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}

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

interface WeightDigestsOptions {
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
