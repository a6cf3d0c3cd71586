import type { Activation, DecoderArchitecture } from '@lorasmith/model-folder';
import { cast, concat, kernelsFor, multiply, scope, split, type Tensor } from '@lorasmith/tensor';
import { activate, activationGradient } from '../activation.js';

/**
 * What an MLP does between its linear layers: the activation, with a gate that of the first half times the second half.
 * @param gateUp `[tokens, 2 × intermediate]`: gate, then up; without a gate up alone
 * @returns `[tokens, intermediate]`
 */
export function mlpActivation(gateUp: Tensor, { gated, activation }: DecoderArchitecture['mlp']): Tensor {
  if (!gated) return activate(gateUp, activation);
  return activation === 'silu' ? kernelsFor(gateUp.dtype).swiGlu(gateUp) : gatedLinearUnit(gateUp, activation);
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
  if (!gated) return activationGradient(gradient, gateUp, activation);
  if (activation === 'silu') return kernelsFor(gateUp.dtype).swiGluGradient(gradient, gateUp);
  return gatedGradient(gradient, gateUp, activation);
}

/** Shazeer 2020 (arXiv:2002.05202), in float32. */
function gatedLinearUnit(gateUp: Tensor, activation: Activation): Tensor {
  return scope(() => {
    const [gate, up] = halves(gateUp);
    return cast(multiply(activate(gate, activation), up), gateUp.dtype);
  });
}

function gatedGradient(gradient: Tensor, gateUp: Tensor, activation: Activation): Tensor {
  return scope(() => {
    const [gate, up] = halves(gateUp);
    const exact = cast(gradient, 'float32');
    const byGate = activationGradient(multiply(exact, up), gate, activation);
    const byUp = multiply(exact, activate(gate, activation));
    return cast(concat([byGate, byUp], 1), gateUp.dtype);
  });
}

function halves(gateUp: Tensor): [Tensor, Tensor] {
  const intermediate = gateUp.shape[1]! / 2;
  const [gate, up] = split(cast(gateUp, 'float32'), [intermediate, intermediate], 1);
  return [gate!, up!];
}
