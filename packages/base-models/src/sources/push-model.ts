import { ProductError } from '@lorasmith/contracts';
import { openBaseModel } from '@lorasmith/model-folder';
import type { BundleRecord, S3BundleStore } from '@lorasmith/storage';
import { modelFileNames } from './model-source.js';

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
    // An outline does not contain the weights, so other hosts could not detect this.
    const message = `${name}/config.json ties the output head to the embedding, but the weights have a different head. Set tie_word_embeddings to false in it.`;
    throw new ProductError('model_file_corrupt', message);
  }
  const names = await modelFileNames(model.path);
  if (replace) await store.delete(name);
  if (!(await store.publishFrom(model.path, names, name))) return null;
  return await store.record(name);
}
