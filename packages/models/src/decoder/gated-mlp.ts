import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { kernelsFor, type Tensor } from '@lorasmith/tensor';

/**
 * The operation of an MLP between its linear layers: the activation, with a gate that of the first half times the second half.
 * @param gateUp `[tokens, 2 × intermediate]`: gate, then up; without a gate up alone
 * @returns `[tokens, intermediate]`
 */
export function mlpActivation(gateUp: Tensor, { gated, activation }: DecoderArchitecture['mlp']): Tensor {
  const kernels = kernelsFor(gateUp.dtype);
  return gated ? kernels.gatedUnit(gateUp, activation) : kernels.activation(gateUp, activation);
}

/**
 * Gradient of {@link mlpActivation} by its input.
 * @param gradient `[tokens, intermediate]`
 */
export function mlpActivationGradient(
  gradient: Tensor,
  gateUp: Tensor,
  { gated, activation }: DecoderArchitecture['mlp'],
): Tensor {
  const kernels = kernelsFor(gateUp.dtype);
  const gradientOf = gated ? kernels.gatedUnitGradient : kernels.activationGradient;
  return gradientOf(gradient, gateUp, activation);
}
