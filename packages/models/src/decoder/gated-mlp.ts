import type { DecoderArchitecture } from '@lorasmith/model-folder';
import type { KernelSet, Tensor } from '@lorasmith/tensor';

/**
 * The operation of an MLP between its linear layers: the activation, with a gate that of the first half times the second half; or the
 * clamped unit.
 * @param gateUp `[tokens, 2 × intermediate]`: gate, then up; without a gate up alone; pairs of both for a clamped unit
 * @returns `[tokens, intermediate]`
 */
export function mlpActivation(
  set: KernelSet,
  gateUp: Tensor,
  { gated, activation, clampedAt }: DecoderArchitecture['mlp'],
): Tensor {
  const kernels = set.of(gateUp.dtype);
  if (clampedAt !== undefined) return kernels.clampedUnit(gateUp, clampedAt);
  return gated ? kernels.gatedUnit(gateUp, activation) : kernels.activation(gateUp, activation);
}

/**
 * Gradient of {@link mlpActivation} by its input.
 * @param gradient `[tokens, intermediate]`
 */
export function mlpActivationGradient(
  set: KernelSet,
  gradient: Tensor,
  gateUp: Tensor,
  { gated, activation, clampedAt }: DecoderArchitecture['mlp'],
): Tensor {
  const kernels = set.of(gateUp.dtype);
  if (clampedAt !== undefined) return kernels.clampedUnitGradient(gradient, gateUp, clampedAt);
  const gradientOf = gated ? kernels.gatedUnitGradient : kernels.activationGradient;
  return gradientOf(gradient, gateUp, activation);
}
