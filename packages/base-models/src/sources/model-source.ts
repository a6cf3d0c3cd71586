import { stat } from 'node:fs/promises';
import path from 'node:path';
import { type BaseModel, type BaseModelDetail, MODEL_NAME_PATTERN, ProductError } from '@lorasmith/contracts';
import { describeModel, listModelFolders, type WeightDigests } from '@lorasmith/model-folder';
import type { BundleCache, S3BundleStore, Staging, Stores } from '@lorasmith/storage';
import { fetchOutline, outlineBytes, rememberDigest } from './model-outline.js';

/** A base model in a folder of this host. The folder stays until it is released. */
export interface HeldModel {
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
  hold(name: string): Promise<HeldModel>;
  /**
   * The model without the values of its weights: enough to plan a job. Its remembered digest is that of the complete model.
   * @throws ProductError as {@link hold}
   */
  holdOutline(name: string): Promise<HeldModel>;
}

/** The kind of base models in a store. */
export const MODELS_KIND = 'models';

export interface ModelSourceOptions {
  /** A model in this folder takes precedence over one of the same name in the store. */
  modelsDir: string;
  stores: Stores;
  /** Receives the digests of outlined models. */
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
  const hold = async (): Promise<HeldModel> => ({ modelsDir, release: () => {} });
  return {
    list: () => listModelFolders(modelsDir),
    describe: (name) => describeModel(modelsDir, name),
    // The caller opens the model, which checks that it exists.
    hold,
    holdOutline: hold,
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
  const held = ({ folder, release }: { folder: string; release(): void }): HeldModel => ({
    modelsDir: path.dirname(folder),
    release,
  });

  const hold = async (name: string): Promise<HeldModel> => {
    if (await isLocal(name)) return await local.hold(name);
    await requireStored(name);
    return held(await store.hold(name));
  };
  const holdOutline = async (name: string): Promise<HeldModel> => {
    if (await isLocal(name)) return await local.holdOutline(name);
    await requireStored(name);
    const record = await store.record(name);
    // If the cache has the complete model already, use it.
    if ((await cache.peek(`${MODELS_KIND}-${record.upload}`, name)) !== null) return held(await store.hold(name));
    const outline = {
      key: `${MODELS_KIND}-outline-${record.upload}`,
      id: name,
      bytes: outlineBytes(record),
      fetch: async (staging: Staging) => {
        await fetchOutline(store, record, staging);
        await rememberDigest(digests, record, staging);
      },
    };
    return held(await cache.hold(outline));
  };
  const describe = async (name: string): Promise<BaseModelDetail> => {
    const { modelsDir: folder, release } = await holdOutline(name);
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
    hold,
    holdOutline,
  };
}
