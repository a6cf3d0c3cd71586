import { digestOfFiles, type ModelFolder, type WeightDigests } from '@lorasmith/model-folder';
import type { FloatDType, KernelSet } from '@lorasmith/tensor';
import type { LoadedModel } from './base-model.js';
import { loadClassifier } from './classifier/load-classifier.js';
import { loadDecoder } from './decoder/load-decoder.js';
import type { LoadOptions } from './loading/load-listed.js';

const LOADERS: { readonly [Kind in LoadedModel['kind']]: typeof loadDecoder | typeof loadClassifier } = {
  decoder: loadDecoder,
  classifier: loadClassifier,
};

/** A base model in memory, and which one it is. */
export interface LoadedBase {
  model: LoadedModel;
  /** See WeightDigests. */
  weightsSha256: string;
}

/**
 * Loads a base model with the digest of its weights, which is computed in the same pass unless it is remembered.
 * @throws ProductError model_file_missing; model_file_corrupt, also when a file changes meanwhile
 */
export async function loadBaseModel(
  folder: ModelFolder,
  dtype: FloatDType,
  kernels: KernelSet,
  options: LoadOptions & { digests: WeightDigests },
): Promise<LoadedBase> {
  const { digests } = options;
  const state = await digests.state(folder);
  let weightsSha256 = await digests.recall(state);
  const onHashed = (sha256s: string[]) => {
    weightsSha256 = digestOfFiles(folder, sha256s);
  };
  const hashing = weightsSha256 === null ? { onHashed } : {};
  const model = await LOADERS[folder.architecture.kind](folder, dtype, kernels, { ...options, ...hashing });
  try {
    await digests.requireUnchanged(folder, state);
    await digests.remember(state, weightsSha256!);
    return { model, weightsSha256: weightsSha256! };
  } catch (error) {
    model.dispose();
    throw error;
  }
}
