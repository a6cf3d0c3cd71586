import { readdir, stat, truncate } from 'node:fs/promises';
import path from 'node:path';
import { type BaseModel, type BaseModelDetail, MODEL_NAME_PATTERN, ProductError } from '@lorasmith/contracts';
import {
  describeModel,
  digestOfFiles,
  listModelFolders,
  openBaseModel,
  readModelFolder,
  type WeightDigests,
} from '@lorasmith/model-folder';
import type { BundleCache, BundleRecord, S3BundleStore, Staging, Stores } from '@lorasmith/storage';

/** A base model in a folder of this host. The folder stays until it is released. */
export interface ModelLease {
  /** The parent folder of the model's folder, for `openBaseModel`. */
  modelsDir: string;
  release(): void;
}

/** The base models that this host can use. */
export interface ModelSource {
  /** All models, sorted by name. An invalid model has a `problem`. */
  list(): Promise<BaseModel[]>;
  /** @throws ProductError `model_not_found` (lists the existing names) */
  describe(name: string): Promise<BaseModelDetail>;
  /**
   * The complete model, fetched and checked if necessary.
   * @throws ProductError `model_not_found`; `storage_full`, `storage_unavailable`
   */
  lease(name: string): Promise<ModelLease>;
  /**
   * The model without the values of its weights: enough to plan a job. Its remembered digest is that of the complete model.
   * @throws ProductError as {@link lease}
   */
  leaseWithoutWeights(name: string): Promise<ModelLease>;
}

/** The kind of base models in a store. */
export const MODELS_KIND = 'models';

export interface ModelSourceOptions {
  /** A model in this folder takes precedence over one of the same name in the store. */
  modelsDir: string;
  stores: Stores;
  /** Receives the digests of models that are fetched without their weights. */
  digests: WeightDigests;
}

export async function openModelSource({ modelsDir, stores, digests }: ModelSourceOptions): Promise<ModelSource> {
  const local: ModelSource = localModels(modelsDir);
  if (stores.s3 === null) return local;
  const { cache } = stores.s3;
  return storedModels({ local, modelsDir, store: await stores.s3.open(MODELS_KIND), cache, digests });
}

/** The base models of a folder of this host. */
export function localModels(modelsDir: string): ModelSource {
  const lease = async (): Promise<ModelLease> => ({ modelsDir, release: () => {} });
  return {
    list: () => listModelFolders(modelsDir),
    describe: (name) => describeModel(modelsDir, name),
    // The caller opens the model, which checks that it exists.
    lease,
    leaseWithoutWeights: lease,
  };
}

const NAME = new RegExp(MODEL_NAME_PATTERN);
/** The number of names that an error lists before it counts the rest. */
const LISTED_NAMES = 20;

function storedModels(options: {
  local: ModelSource;
  modelsDir: string;
  store: S3BundleStore;
  cache: BundleCache;
  digests: WeightDigests;
}): ModelSource {
  const { local, modelsDir, store, cache, digests } = options;

  const isLocal = async (name: string): Promise<boolean> => {
    if (!NAME.test(name)) return false;
    return await stat(path.join(modelsDir, name)).then(
      (status) => status.isDirectory(),
      () => false,
    );
  };
  const requireStored = async (name: string): Promise<void> => {
    if (NAME.test(name) && (await store.has(name))) return;
    const names = [...new Set([...(await store.list()), ...(await local.list()).map((model) => model.name)])].sort();
    const more = names.length > LISTED_NAMES ? ` and ${names.length - LISTED_NAMES} more` : '';
    const existing =
      names.length === 0
        ? 'There are none: add one to the store with npm run push-model.'
        : `There are: ${names.slice(0, LISTED_NAMES).join(', ')}${more}.`;
    const shown = JSON.stringify(name.slice(0, 100));
    throw new ProductError('model_not_found', `There is no base model ${shown}. ${existing}`, { param: 'base_model' });
  };
  const leaseOf = ({ folder, release }: { folder: string; release(): void }): ModelLease => ({
    modelsDir: path.dirname(folder),
    release,
  });

  const lease = async (name: string): Promise<ModelLease> => {
    if (await isLocal(name)) return await local.lease(name);
    await requireStored(name);
    return leaseOf(await store.lease(name));
  };
  const leaseWithoutWeights = async (name: string): Promise<ModelLease> => {
    if (await isLocal(name)) return await local.leaseWithoutWeights(name);
    await requireStored(name);
    const record = await store.record(name);
    // If the cache has the complete model already, use it.
    if ((await cache.peek(`${MODELS_KIND}-${record.upload}`, name)) !== null) return leaseOf(await store.lease(name));
    const partial = {
      key: `${MODELS_KIND}-without-weights-${record.upload}`,
      id: name,
      bytes: bytesWithoutWeights(record),
      fetch: async (staging: Staging) => {
        await fetchWithoutWeights(store, record, staging);
        await rememberDigest(digests, record, staging);
      },
    };
    return leaseOf(await cache.lease(partial));
  };
  const describe = async (name: string): Promise<BaseModelDetail> => {
    const { modelsDir: folder, release } = await leaseWithoutWeights(name);
    try {
      return await describeModel(folder, name);
    } finally {
      release();
    }
  };

  return {
    async list() {
      const models = await local.list();
      const known = new Set(models.map(({ name }) => name));
      for (const name of await store.list()) {
        if (known.has(name) || !NAME.test(name)) continue;
        const { modules: _, ...model } = await describe(name);
        models.push(model);
      }
      return models.sort((a, b) => (a.name < b.name ? -1 : 1));
    },
    describe,
    lease,
    leaseWithoutWeights,
  };
}

/** A safetensors file starts with the length of its header, in 8 bytes. */
const LENGTH_BYTES = 8;
/** The limit of the safetensors reader. */
const MAX_HEADER_BYTES = 100_000_000;
/** Assumed size of a header before it is known. The headers of the largest models have about 1 MiB. */
const EXPECTED_HEADER_BYTES = 2 ** 20;

/** Approximate size on disk of a model without the values of its weights. */
function bytesWithoutWeights({ files }: BundleRecord): number {
  const sizes = files.map(({ name, bytes }) => (isWeightFile(name) ? Math.min(bytes, EXPECTED_HEADER_BYTES) : bytes));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/**
 * Fetches a model without the values of its weights. Each weight file is a sparse file of the same size that contains only the
 * header: names and shapes can be read, tensors cannot.
 *
 * @throws ProductError `internal_error` for a file that has changed; `model_file_corrupt`
 */
async function fetchWithoutWeights(store: S3BundleStore, record: BundleRecord, staging: Staging): Promise<void> {
  for (const { name, bytes, sha256 } of record.files) {
    if (isWeightFile(name)) {
      await fetchHeader(store, record.id, { name, bytes }, staging);
      continue;
    }
    const found = await staging.write(name, await store.read(record.id, name));
    if (found.sha256 === sha256) continue;
    throw new ProductError(
      'internal_error',
      `The file ${name} of ${record.id} in the store has changed since it was stored.`,
    );
  }
}

/** Remembers the digest of the complete model's weights, which cannot be computed from a copy without them. */
export async function rememberDigest(digests: WeightDigests, { files }: BundleRecord, staging: Staging): Promise<void> {
  const sha256s = new Map(files.map(({ name, sha256 }) => [name, sha256]));
  try {
    const model = await readModelFolder(staging.path);
    const digest = digestOfFiles(
      model,
      model.files.map(({ name }) => sha256s.get(name)!),
    );
    // Nobody writes these files again.
    await digests.remember({ ...(await digests.state(model)), settled: true }, digest);
  } catch (error) {
    // The first use of an invalid model reports its fault.
    if (!(error instanceof ProductError)) throw error;
  }
}

async function fetchHeader(
  store: S3BundleStore,
  id: string,
  { name, bytes }: { name: string; bytes: number },
  staging: Staging,
): Promise<void> {
  const lengthRange = { start: 0, end: Math.min(bytes, LENGTH_BYTES) - 1 };
  const head = Buffer.concat(await (await store.read(id, name, lengthRange)).toArray());
  const headerBytes = head.length === LENGTH_BYTES ? Number(head.readBigUInt64LE()) : Number.POSITIVE_INFINITY;
  if (headerBytes > Math.min(MAX_HEADER_BYTES, bytes - LENGTH_BYTES)) {
    throw new ProductError('model_file_corrupt', `${id}/${name} in the store is not a safetensors file.`);
  }
  const end = LENGTH_BYTES + headerBytes - 1;
  await staging.write(name, await store.read(id, name, { start: 0, end }));
  await truncate(path.join(staging.path, name), bytes);
}

/** True if a file of a base model contains weights. */
export function isWeightFile(name: string): boolean {
  return name.endsWith('.safetensors');
}

/** Weights, settings, tokenizer, chat template and licence, but no hidden files and no pickles. */
const WANTED = /^[A-Za-z0-9_][A-Za-z0-9_-]*$|^[A-Za-z0-9_][A-Za-z0-9._-]*\.(safetensors|json|txt|jinja|model|md)$/;

/** The names of the files that are stored, sorted. Links to files count as files. */
async function modelFileNames(folder: string): Promise<string[]> {
  const names: string[] = [];
  for (const name of await readdir(folder)) {
    if (WANTED.test(name) && (await stat(path.join(folder, name))).isFile()) names.push(name);
  }
  return names.sort();
}

export interface PushModelOptions {
  /** {@link MODELS_KIND} of a store. */
  store: S3BundleStore;
  modelsDir: string;
  name: string;
  /** Removes a model of the same name first; hosts keep their copy until their jobs have finished. */
  replace: boolean;
}

/**
 * Uploads a base model of the models folder to the store, after the same checks as for a job.
 * @returns the stored record; null when the name is in use
 * @throws ProductError `model_not_found` and the other codes of a base model; `storage_full`, `storage_unavailable`
 */
export async function pushModel({ store, modelsDir, name, replace }: PushModelOptions): Promise<BundleRecord | null> {
  const model = await openBaseModel(modelsDir, name);
  if (model.untiedByFiles) {
    // Hosts that fetch a model without its weights could not detect this.
    const message = `${name}/config.json ties the output head to the embedding, but the weights have a different head. Set tie_word_embeddings to false in it.`;
    throw new ProductError('model_file_corrupt', message);
  }
  const names = await modelFileNames(model.path);
  if (replace) await store.delete(name);
  if (!(await store.publishFrom(model.path, names, name))) return null;
  return await store.record(name);
}
