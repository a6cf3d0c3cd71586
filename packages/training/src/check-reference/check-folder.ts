import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { FloatDType, KernelSet } from '@lorasmith/tensor';
import { checkClassifier } from './check-classifier.js';
import { checkDecoder } from './check-decoder.js';
import type { Comparison } from './comparison.js';

/** Compares our results with those of a reference folder, of a decoder or a classifier. */
export async function checkFolder(folder: string, precision: FloatDType, kernels: KernelSet): Promise<Comparison[]> {
  const isClassifier = await access(join(folder, 'classifier.json')).then(
    () => true,
    () => false,
  );
  return isClassifier ? await checkClassifier(folder, kernels) : await checkDecoder(folder, precision, kernels);
}
