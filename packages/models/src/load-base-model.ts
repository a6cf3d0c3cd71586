import type { ModelFolder, WeightDigests } from '@lorasmith/model-folder';
import type { FloatDType } from '@lorasmith/tensor';
import { loadClassifier } from './classifier/load-classifier.js';
import { loadDecoder } from './decoder/load-decoder.js';
import type { BaseModel } from './index.js';
import type { LoadOptions } from './weight-source.js';

const LOADERS: { readonly [Kind in BaseModel['kind']]: typeof loadDecoder | typeof loadClassifier } = {
  decoder: loadDecoder,
  classifier: loadClassifier,
};

/** A base model in memory, and which one it is. */
export interface LoadedBase {
  model: BaseModel;
  /** See WeightDigests. */
  weightsSha256: string;
}

/**
 * Loads a base model and computes the digest of its weights, unless that is remembered.
 * @throws ProductError model_file_missing; model_file_corrupt, also when a file changes meanwhile
 */
export async function loadBaseModel(
  folder: ModelFolder,
  dtype: FloatDType,
  options: LoadOptions & { digests: WeightDigests },
): Promise<LoadedBase> {
  const { digests } = options;
  const state = await digests.state(folder);
  const weightsSha256 = await digests.compute(folder);
  const model = await LOADERS[folder.architecture.kind](folder, dtype, options);
  try {
    await digests.requireUnchanged(folder, state);
    return { model, weightsSha256 };
  } catch (error) {
    model.dispose();
    throw error;
  }
}
