import { ProductError } from '@lorasmith/contracts';
import { modelFileLabel } from './json-file.js';
import type { LocatedTensor } from './weight-files.js';

/**
 * Checks the logarithms of the decays of linear attention.
 *
 * @param name of their tensor
 * @throws ProductError model_file_corrupt for one whose exponential is not finite in float32
 */
export function checkDecays(
  folder: { path: string; tensors: ReadonlyMap<string, LocatedTensor> },
  name: string,
  logs: Float32Array,
): void {
  const head = logs.findIndex((log) => !Number.isFinite(Math.fround(Math.exp(log))));
  if (head === -1) return;
  const label = modelFileLabel(folder.path, folder.tensors.get(name)!.file);
  const message = `${label}: tensor ${name} has ${logs[head]} for head ${head}, whose exponential is not finite.`;
  throw new ProductError('model_file_corrupt', message);
}
