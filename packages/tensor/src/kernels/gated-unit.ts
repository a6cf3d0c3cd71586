import { multiply } from '../arithmetic.js';
import { elementType, execute } from '../execute.js';
import { concat, split } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast } from '../transfer.js';
import { type Activation, activationAttribute, rawActivation, rawActivationGradient } from './activation.js';

// What the ops compute: see Kernels.

export function fusedGatedUnit(gateUp: Tensor, activation: Activation): Tensor {
  return execute('LorasmithGatedUnit', [elementType(gateUp), activationAttribute(activation)], [gateUp]);
}

export function rawGatedUnit(gateUp: Tensor, activation: Activation): Tensor {
  return scope(() => {
    const [gate, up] = halves(gateUp);
    return cast(multiply(rawActivation(gate, activation), up), gateUp.dtype);
  });
}

export function fusedGatedUnitGradient(gradient: Tensor, gateUp: Tensor, activation: Activation): Tensor {
  const attributes = [elementType(gateUp), activationAttribute(activation)];
  return execute('LorasmithGatedUnitGradient', attributes, [gradient, gateUp]);
}

export function rawGatedUnitGradient(gradient: Tensor, gateUp: Tensor, activation: Activation): Tensor {
  // Each is freed as soon as it is used: these are the largest tensors of a layer.
  return scope(() => {
    const [gate, up] = halves(gateUp);
    const exact = cast(gradient, 'float32');
    const activated = rawActivation(gate, activation);
    const byUp = multiply(exact, activated);
    const byActivated = multiply(exact, up);
    dispose([activated, up, exact === gradient ? null : exact]);
    const byGate = rawActivationGradient(byActivated, gate, activation);
    dispose([byActivated, gate]);
    const both = concat([byGate, byUp], 1);
    dispose([byGate, byUp]);
    return cast(both, gateUp.dtype);
  });
}

/** Gate and up, `[tokens, intermediate]` float32 each. */
function halves(gateUp: Tensor): [gate: Tensor, up: Tensor] {
  const intermediate = gateUp.shape[1]! / 2;
  const exact = cast(gateUp, 'float32');
  const [gate, up] = split(exact, [intermediate, intermediate], 1);
  if (exact !== gateUp) exact.dispose();
  return [gate!, up!];
}
