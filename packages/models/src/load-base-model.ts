import { digestOfFiles, type ModelFolder, type WeightDigests } from '@lorasmith/model-folder';
import type { FloatDType, KernelSet } from '@lorasmith/tensor';
import { Classifier } from './classifier/classifier.js';
import type { Decoder } from './decoder/decoder.js';
import { loadDecoder } from './decoder/load-decoder.js';
import { built, type LoadOptions, loadListed } from './loading/listed.js';
import { WeightList } from './loading/weight-list.js';

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

/** A base model in memory. */
export type LoadedModel = Decoder | Classifier;

/** Reads the weights of a stack of linear layers. */
export async function loadClassifier(
  folder: ModelFolder,
  dtype: FloatDType,
  kernels: KernelSet,
  options: LoadOptions = {},
): Promise<Classifier> {
  const { architecture } = folder;
  if (architecture.kind !== 'classifier') {
    throw new Error(`model ${folder.name} is a ${architecture.kind}, not a classifier`);
  }
  const list = new WeightList(folder, dtype, kernels);
  const groups = architecture.layers.map(({ name }) => list.linearGroup([folder.linears.get(name)!]));
  const classifier = built({ groups }, (read) => new Classifier(architecture, dtype, read.groups));
  return await loadListed(folder, classifier, options);
}
