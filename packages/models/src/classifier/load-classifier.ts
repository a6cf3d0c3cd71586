import type { ModelFolder } from '@lorasmith/model-folder';
import type { FloatDType, KernelSet } from '@lorasmith/tensor';
import { built } from '../loading/listed.js';
import { type LoadOptions, loadListed } from '../loading/load-listed.js';
import { WeightList } from '../loading/weight-list.js';
import { Classifier } from './classifier.js';

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
