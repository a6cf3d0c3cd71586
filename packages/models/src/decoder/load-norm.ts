import { type DecoderArchitecture, tensorName } from '@lorasmith/model-folder';
import { add, constant, dispose, fill, scope, type Tensor } from '@lorasmith/tensor';
import type { WeightSource } from '../weight-source.js';
import { Norm } from './norm.js';

/** @param path of its module */
export async function loadNorm(
  source: WeightSource,
  { names, norm }: Pick<DecoderArchitecture, 'names' | 'norm'>,
  path: string,
): Promise<Norm> {
  const read = (part: string) => source.tensor(tensorName(names, `${path}.${part}`), 'float32');
  const [weight, bias] = await Promise.all([read('weight'), norm.kind === 'layer' ? read('bias') : null]);
  return new Norm(norm, norm.weightOffset === 0 ? weight : source.give(plusOne(weight)), bias);
}

/** @param path relative to the layer; null where the family has no such norm */
export async function loadNormIfAny(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
  path: string | null,
): Promise<Norm | null> {
  return path === null ? null : await loadNorm(source, architecture, `${architecture.names.layers}.${index}.${path}`);
}

/** A norm without weights. */
export function unitNorm(source: WeightSource, { norm }: DecoderArchitecture, size: number): Norm {
  return new Norm(norm, source.give(fill([size], 1)), null);
}

function plusOne(weight: Tensor): Tensor {
  const sum = scope(() => add(weight, constant(1)));
  dispose(weight);
  return sum;
}
