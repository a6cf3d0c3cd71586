import { type DecoderArchitecture, type NormSettings, tensorName } from '@lorasmith/model-folder';
import {
  add,
  alias,
  cast,
  constant,
  dispose,
  type FloatDType,
  fill,
  type KernelSet,
  type Normed,
  type StreamGradient,
  scope,
  type Tensor,
} from '@lorasmith/tensor';
import { built, type Listed, made, type ReadItem } from '../loading/listed.js';
import type { WeightList } from '../loading/weight-list.js';

/**
 * A frozen norm of a decoder: root mean square norm, or layer norm (Ba et al. 2016, arXiv:1607.06450), which is the
 * root mean square norm of what is left of x when its mean is taken off, and a bias.
 */
export class Norm {
  readonly #kernels: KernelSet;
  readonly #epsilon: number;
  readonly #kind: NormSettings['kind'];
  /** `[size]` float32, the offset of the settings in it */
  readonly weight: Tensor;
  /** `[size]` float32; null for a root mean square norm */
  readonly bias: Tensor | null;

  constructor(kernels: KernelSet, { kind, epsilon }: NormSettings, weight: Tensor, bias: Tensor | null) {
    this.#kernels = kernels;
    this.#kind = kind;
    this.#epsilon = epsilon;
    this.weight = weight;
    this.bias = bias;
  }

  /**
   * @param x `[tokens, size]` float32
   * @param dtype of the output
   */
  forward(x: Tensor, dtype: FloatDType): Normed {
    if (this.#kind === 'rms') return this.#kernels.of(dtype).rmsNorm(x, this.weight, this.#epsilon, dtype);
    return scope(() => {
      const { centred, rmsNorm } = this.#kernels.of('float32');
      const { output, inverseRms } = rmsNorm(centred(x), this.weight, this.#epsilon, 'float32');
      return { output: cast(this.bias === null ? alias(output) : add(output, this.bias), dtype), inverseRms };
    });
  }

  /**
   * {@link forward} of `x + branch`.
   * @param branch `[tokens, size]` in the model's dtype
   * @returns also the sum, float32
   */
  addForward(x: Tensor, branch: Tensor): Normed & { sum: Tensor } {
    if (this.#kind === 'rms') return this.#kernels.of(branch.dtype).addRmsNorm(x, branch, this.weight, this.#epsilon);
    return scope(() => {
      const sum = add(x, cast(branch, 'float32'));
      return { sum, ...this.forward(sum, branch.dtype as FloatDType) };
    });
  }

  /**
   * Gradient by x, added to that of the branch past the norm.
   * @param gradient `[tokens, size]` by the output
   * @param residual `[tokens, size]` float32; null for none
   */
  gradient(gradient: Tensor, x: Tensor, inverseRms: Tensor, residual: Tensor | null): StreamGradient {
    const { rmsNormGradient } = this.#kernels.of(gradient.dtype);
    if (this.#kind === 'rms') return rmsNormGradient(gradient, x, this.weight, inverseRms, residual);
    return scope(() => {
      const { centred } = this.#kernels.of('float32');
      const byCentred = rmsNormGradient(gradient, centred(x), this.weight, inverseRms, null);
      dispose(byCentred.rounded);
      const own = centred(byCentred.exact);
      const exact = residual === null ? own : add(residual, own);
      return { exact, rounded: cast(alias(exact), gradient.dtype) };
    });
  }

  /** Frees the weights. */
  dispose(): void {
    dispose([this.weight, this.bias]);
  }
}

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
