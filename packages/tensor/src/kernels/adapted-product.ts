import type { DType } from '../dtype.js';
import { elementType, executeMany, intAttribute } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';
import type { LoraLayout } from './lora.js';
import { type LoraGradients, type LoraOutput, type LoraPart, partsTensor } from './lora-products.js';
import { MARGIN, type MarginWeight, RANK_MULTIPLE } from './margin-weight.js';

// What the ops compute: see Kernels.

/** Whether these adapters at frozen weights with a margin are one that {@link Kernels.adaptedForward} takes. */
export function isAdaptedAlone(parts: readonly LoraPart[], tokens: number): boolean {
  const [part] = parts;
  return part !== undefined && parts.length === 1 && part.rows.count === tokens && part.dropout === null && fits(part);
}

function fits({ layout }: LoraPart): boolean {
  const { inFeatures, outFeatures, adapted } = layout;
  const ranks = adapted.reduce((sum, { rank }) => sum + RANK_MULTIPLE * Math.ceil(rank / RANK_MULTIPLE), 0);
  return ranks <= MARGIN && (inFeatures < outFeatures || adaptsAll(layout));
}

function adaptsAll({ outFeatures, adapted }: LoraLayout): boolean {
  return adapted.reduce((sum, own) => sum + own.outFeatures, 0) === outFeatures;
}

export function fusedAdaptedForward(x: Tensor, { tensor, outFeatures }: MarginWeight, part: LoraPart): LoraOutput {
  return scope(() => {
    const [output, low] = executeMany(
      'LorasmithAdaptedForward',
      [elementType(x), intAttribute('N', 1), intAttribute('out', outFeatures)],
      [x, tensor, partsTensor([part]), part.parameters],
      2,
    );
    return { output: output!, low: [low!] };
  });
}

export function fusedAdaptedBackward(
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  { tensor }: MarginWeight,
  part: LoraPart,
  wanted: boolean,
): LoraGradients {
  return scope(() => {
    const [byInput, ...byParameters] = executeMany(
      'LorasmithAdaptedBackward',
      [elementType(x), intAttribute('N', 1), intAttribute('wanted', Number(wanted))],
      [gradient, x, low[0]!, tensor, partsTensor([part]), part.parameters],
      2,
    );
    return { byInput: wanted ? byInput! : null, byParameters };
  });
}

/** The kernels of a dtype that the plain products are made of. The table passes its own, so that this file does not import it. */
export type KernelsOfAdapted = (dtype: DType) => {
  marginProduct(a: Tensor, weight: MarginWeight, transposed: boolean): Tensor;
  loraForward(base: Tensor, x: Tensor, parts: readonly LoraPart[]): LoraOutput;
  loraBackward(
    gradient: Tensor,
    x: Tensor,
    low: readonly Tensor[],
    base: Tensor | null,
    parts: readonly LoraPart[],
  ): LoraGradients;
};

export function rawAdaptedForward(
  kernelsFor: KernelsOfAdapted,
  x: Tensor,
  weight: MarginWeight,
  part: LoraPart,
): LoraOutput {
  const { marginProduct, loraForward } = kernelsFor(x.dtype);
  return scope(() => loraForward(marginProduct(x, weight, true), x, [part]));
}

export function rawAdaptedBackward(
  kernelsFor: KernelsOfAdapted,
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  weight: MarginWeight,
  part: LoraPart,
  wanted: boolean,
): LoraGradients {
  const { marginProduct, loraBackward } = kernelsFor(x.dtype);
  return scope(() => loraBackward(gradient, x, low, wanted ? marginProduct(gradient, weight, false) : null, [part]));
}
