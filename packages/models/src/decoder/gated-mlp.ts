import type { Activation, DecoderArchitecture } from '@lorasmith/model-folder';
import {
  add,
  cast,
  concat,
  constant,
  fusedOpsEnabled,
  fusedSwiGlu,
  fusedSwiGluGradient,
  multiply,
  scope,
  sigmoid,
  split,
  subtract,
  type Tensor,
} from '@lorasmith/tensor';
import { activate, activationGradient } from '../activation.js';

/**
 * What an MLP does between its linear layers: the activation, with a gate that of the first half times the second half.
 * @param gateUp `[tokens, 2 × intermediate]`: gate, then up; without a gate up alone
 * @returns `[tokens, intermediate]`
 */
export function mlpActivation(gateUp: Tensor, { gated, activation }: DecoderArchitecture['mlp']): Tensor {
  if (!gated) return activate(gateUp, activation);
  return activation === 'silu' ? swiGlu(gateUp) : gatedLinearUnit(gateUp, activation);
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
  return activation === 'silu' ? swiGluGradient(gradient, gateUp) : gatedGradient(gradient, gateUp, activation);
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

/**
 * SwiGLU (Shazeer 2020, arXiv:2002.05202): `silu(gate) · up`, in float32.
 * @param gateUp `[tokens, 2 × intermediate]`: gate, then up
 * @returns `[tokens, intermediate]`
 */
export function swiGlu(gateUp: Tensor): Tensor {
  if (fusedOpsEnabled()) return fusedSwiGlu(gateUp);
  return scope(() => {
    const [gate, up] = halves(gateUp);
    const silu = multiply(gate, sigmoid(gate));
    return cast(multiply(silu, up), gateUp.dtype);
  });
}

/**
 * Gradient of {@link swiGlu}.
 * @param gradient `[tokens, intermediate]`
 * @returns `[tokens, 2 × intermediate]`
 */
export function swiGluGradient(gradient: Tensor, gateUp: Tensor): Tensor {
  if (fusedOpsEnabled()) return fusedSwiGluGradient(gradient, gateUp);
  return scope(() => {
    const [gate, up] = halves(gateUp);
    const exact = cast(gradient, 'float32');
    const gateSigmoid = sigmoid(gate);
    const silu = multiply(gate, gateSigmoid);
    // d silu / d gate = sigmoid (1 + gate (1 - sigmoid)) = sigmoid + silu (1 - sigmoid)
    const slope = add(gateSigmoid, multiply(silu, subtract(constant(1), gateSigmoid)));
    const gateGradient = multiply(multiply(exact, up), slope);
    const upGradient = multiply(exact, silu);
    return cast(concat([gateGradient, upGradient], 1), gateUp.dtype);
  });
}

function halves(gateUp: Tensor): [Tensor, Tensor] {
  const intermediate = gateUp.shape[1]! / 2;
  const [gate, up] = split(cast(gateUp, 'float32'), [intermediate, intermediate], 1);
  return [gate!, up!];
}
