import { type DecoderArchitecture, tensorName } from '@lorasmith/model-folder';
import { add, constant, dispose, fill, scope, type Tensor } from '@lorasmith/tensor';
import { built, type Listed, made, type ReadItem } from '../loading/listed.js';
import type { WeightList } from '../loading/weight-list.js';
import { Norm } from './norm.js';

/** @param path relative to the layer */
export function listNormOfLayer(
  list: WeightList,
  settings: Pick<DecoderArchitecture, 'names' | 'norm'>,
  index: number,
  path: string,
): Listed<Norm> {
  return listNorm(list, settings, `${settings.names.layers}.${index}.${path}`);
}

/** @param path relative to the layer; null where the family has no such norm */
export function listNormIfAny(
  list: WeightList,
  architecture: DecoderArchitecture,
  index: number,
  path: string | null,
): Listed<Norm> | null {
  return path === null ? null : listNormOfLayer(list, architecture, index, path);
}

/** A norm without weights. */
export function unitNorm(list: WeightList, { norm }: DecoderArchitecture, size: number): Listed<Norm> {
  const ones = made({}, (_, give) => give(fill([size], 1)));
  return built({ ones }, (read) => new Norm(list.kernels, norm, read.ones, null));
}

/** @param path of its module */
export function listNorm(
  list: WeightList,
  { names, norm }: Pick<DecoderArchitecture, 'names' | 'norm'>,
  path: string,
): Listed<Norm> {
  const read = (part: string) => list.tensor(tensorName(names, `${path}.${part}`), 'float32');
  const weight = norm.weightOffset === 0 ? read('weight') : plusOne(read('weight'));
  const parts = { weight, bias: norm.kind === 'layer' ? read('bias') : null };
  return built(parts, (read) => new Norm(list.kernels, norm, read.weight, read.bias));
}

function plusOne(stored: ReadItem<Tensor>): ReadItem<Tensor> {
  return made({ stored }, ({ stored: weight }, give) => {
    const sum = give(scope(() => add(weight, constant(1))));
    dispose(weight);
    return sum;
  });
}
