import { add, greaterEqual, maximum, minimum, multiply } from '../arithmetic.js';
import { elementType, execute, floatAttribute } from '../execute.js';
import { concat, reshape, slice, split } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';
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

const ACTIVATION = 'quick_gelu';

export function fusedClampedUnit(gateUp: Tensor, limit: number): Tensor {
  return execute('LorasmithClampedUnit', [elementType(gateUp), floatAttribute('limit', limit)], [gateUp]);
}

export function rawClampedUnit(gateUp: Tensor, limit: number): Tensor {
  return scope(() => {
    const { gate, up } = clamped(gateUp, limit);
    return cast(multiply(add(up, constant(1)), rawActivation(gate, ACTIVATION)), gateUp.dtype);
  });
}

export function fusedClampedUnitGradient(gradient: Tensor, gateUp: Tensor, limit: number): Tensor {
  const attributes = [elementType(gateUp), floatAttribute('limit', limit)];
  return execute('LorasmithClampedUnitGradient', attributes, [gradient, gateUp]);
}

export function rawClampedUnitGradient(gradient: Tensor, gateUp: Tensor, limit: number): Tensor {
  return scope(() => {
    const [rows, intermediate] = gradient.shape as [number, number];
    const { gate, up, gateStays, upStays } = clamped(gateUp, limit);
    const exact = cast(gradient, 'float32');
    const byActivated = multiply(exact, add(up, constant(1)));
    const byGate = multiply(rawActivationGradient(byActivated, gate, ACTIVATION), gateStays);
    const byUp = multiply(multiply(exact, rawActivation(gate, ACTIVATION)), upStays);
    const pairs = concat(
      [byGate, byUp].map((x) => reshape(x, [rows, intermediate, 1])),
      2,
    );
    return cast(reshape(pairs, [rows, 2 * intermediate]), gateUp.dtype);
  });
}

/** Gates and ups, clamped, and 1 where a number was within its limits, else 0: `[rows, intermediate]` float32 each. */
function clamped(gateUp: Tensor, limit: number): Record<'gate' | 'up' | 'gateStays' | 'upStays', Tensor> {
  const [rows, width] = gateUp.shape as [number, number];
  const pairs = reshape(cast(gateUp, 'float32'), [rows, width / 2, 2]);
  const [gates, ups] = [0, 1].map((place) => reshape(slice(pairs, [0, 0, place], [-1, -1, 1]), [rows, width / 2])) as [
    Tensor,
    Tensor,
  ];
  const most = constant(limit);
  const gate = minimum(gates, most);
  const up = maximum(minimum(ups, most), constant(-limit));
  const stays = (x: Tensor, bound: Tensor) => cast(greaterEqual(bound, x), 'float32');
  const upStays = multiply(stays(ups, most), cast(greaterEqual(ups, constant(-limit)), 'float32'));
  return { gate, up, gateStays: stays(gates, most), upStays };
}
