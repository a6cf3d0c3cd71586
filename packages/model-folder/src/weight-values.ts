import { ProductError } from '@lorasmith/contracts';
import { modelFileLabel } from './json-file.js';
import type { LocatedTensor } from './weight-files.js';

interface Folder {
  path: string;
  tensors: ReadonlyMap<string, LocatedTensor>;
}

/**
 * Checks the logarithms of the decays of linear attention.
 *
 * @param name of their tensor
 * @throws ProductError model_file_corrupt for one whose exponential is not finite in float32
 */
export function checkDecays(folder: Folder, name: string, logs: Float32Array): void {
  const head = logs.findIndex((log) => !Number.isFinite(Math.fround(Math.exp(log))));
  if (head === -1) return;
  throw corrupt(folder, name, `has ${logs[head]} for head ${head}, whose exponential is not finite`);
}

/**
 * Checks the factor of a layer.
 *
 * @param name of its tensor
 * @throws ProductError model_file_corrupt for one that is not finite
 */
export function checkFactor(folder: Folder, name: string, factor: number): void {
  if (!Number.isFinite(factor)) throw corrupt(folder, name, `is ${factor}, but must be finite`);
}

/**
 * Checks the weight of a router.
 *
 * @param name of its tensor
 * @param weight `[experts, hidden]`
 * @throws ProductError model_file_corrupt for a number that is not finite
 */
export function checkRouter(folder: Folder, name: string, weight: Float32Array, hiddenSize: number): void {
  const index = weight.findIndex((number) => !Number.isFinite(number));
  if (index === -1) return;
  const expert = Math.floor(index / hiddenSize);
  throw corrupt(folder, name, `has ${weight[index]} for expert ${expert}, but must be finite. Copy it again`);
}

function corrupt({ path, tensors }: Folder, name: string, what: string): ProductError {
  const label = modelFileLabel(path, tensors.get(name)!.file);
  return new ProductError('model_file_corrupt', `${label}: tensor ${name} ${what}.`);
}
