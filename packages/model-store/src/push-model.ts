import { ProductError } from '@lorasmith/contracts';
import { openBaseModel } from '@lorasmith/model-folder';
import type { BundleRecord, S3BundleStore } from '@lorasmith/storage';
import { modelFileNames } from './model-files.js';

export interface PushModelOptions {
  /** {@link MODELS_KIND} of a store. */
  store: S3BundleStore;
  modelsDir: string;
  name: string;
  /** Removes a model of the same name first; hosts that have it go on with their copy until their job is done. */
  replace: boolean;
}

/**
 * Puts a base model of the models folder into the store, once it has been checked as a job would.
 * @returns what was stored; null when there is one of that name already
 * @throws ProductError `model_not_found` and the other codes of a base model; `storage_full`, `storage_unavailable`
 */
export async function pushModel({ store, modelsDir, name, replace }: PushModelOptions): Promise<BundleRecord | null> {
  const model = await openBaseModel(modelsDir, name);
  if (model.untiedByFiles) {
    // Those who have only its outline could not see it.
    const message = `${name}/config.json ties the output head to the embedding, but the weights have another head. Set tie_word_embeddings to false in it.`;
    throw new ProductError('model_file_corrupt', message);
  }
  const names = await modelFileNames(model.path);
  if (replace) await store.delete(name);
  if (!(await store.publishFrom(model.path, names, name))) return null;
  return await store.record(name);
}
