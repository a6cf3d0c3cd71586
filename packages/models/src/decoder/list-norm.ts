import { type DecoderArchitecture, tensorName } from '@lorasmith/model-folder';
import { add, cast, constant, dispose, type FloatDType, fill, scope, type Tensor } from '@lorasmith/tensor';
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

/** The tensors that the norm of a branch keeps for its gradient. */
export type SavedBranch = {
  /** `[tokens, hidden]` in the model's dtype, before the norm */
  input: Tensor;
  inverseRms: Tensor;
};

/**
 * The norm, where there is one, of what a block adds to the residual stream.
 * @param branch `[tokens, hidden]` in the model's dtype; taken over
 */
export function normBranch(
  norm: Norm | null,
  branch: Tensor,
  record: boolean,
): { output: Tensor; saved: SavedBranch | null } {
  if (norm === null) return { output: branch, saved: null };
  const { output, inverseRms } = scope(() => norm.forward(cast(branch, 'float32'), branch.dtype as FloatDType));
  if (record) return { output, saved: { input: branch, inverseRms } };
  dispose([branch, inverseRms]);
  return { output, saved: null };
}

/**
 * Gradient of {@link normBranch} by the branch. Takes `gradient` over and frees what was saved.
 * @param gradient `[tokens, hidden]` in the model's dtype
 */
export function branchGradient(norm: Norm | null, gradient: Tensor, saved: SavedBranch | null): Tensor {
  if (norm === null || saved === null) return gradient;
  const { rounded } = scope(() => {
    const { exact, rounded: inDtype } = norm.gradient(gradient, cast(saved.input, 'float32'), saved.inverseRms, null);
    exact.dispose();
    return { rounded: inDtype };
  });
  dispose([gradient, saved]);
  return rounded;
}
