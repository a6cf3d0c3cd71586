import type { ModelFolder } from '@lorasmith/model-folder';
import type { FloatDType } from '@lorasmith/tensor';
import { type LoadOptions, WeightSource } from '../weight-source.js';
import { Classifier } from './classifier.js';

/** Reads the weights of a stack of linear layers. */
export async function loadClassifier(
  folder: ModelFolder,
  dtype: FloatDType,
  options: LoadOptions = {},
): Promise<Classifier> {
  const { architecture } = folder;
  if (architecture.kind !== 'classifier') {
    throw new Error(`model ${folder.name} is a ${architecture.kind}, not a classifier`);
  }
  return await WeightSource.reading(folder, dtype, options, async (source) => {
    const groups = await Promise.all(
      architecture.layers.map(({ name }) => source.linearGroup([folder.linears.get(name)!])),
    );
    return new Classifier(architecture, dtype, groups);
  });
}
