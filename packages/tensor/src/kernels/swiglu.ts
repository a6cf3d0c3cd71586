import { add, multiply, sigmoid, subtract } from '../arithmetic.js';
import { elementType, execute } from '../execute.js';
import { concat, split } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';

// What the ops compute: see Kernels.

export function fusedSwiGlu(gateUp: Tensor): Tensor {
  return execute('LorasmithSwiGlu', [elementType(gateUp)], [gateUp]);
}

export function rawSwiGlu(gateUp: Tensor): Tensor {
  return scope(() => {
    const [gate, up] = halves(gateUp);
    const silu = multiply(gate, sigmoid(gate));
    return cast(multiply(silu, up), gateUp.dtype);
  });
}

export function fusedSwiGluGradient(gradient: Tensor, gateUp: Tensor): Tensor {
  return execute('LorasmithSwiGluGradient', [elementType(gateUp)], [gradient, gateUp]);
}

export function rawSwiGluGradient(gradient: Tensor, gateUp: Tensor): Tensor {
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

/** Gate and up, `[tokens, intermediate]` float32 each. */
export function halves(gateUp: Tensor): [gate: Tensor, up: Tensor] {
  const intermediate = gateUp.shape[1]! / 2;
  const [gate, up] = split(cast(gateUp, 'float32'), [intermediate, intermediate], 1);
  return [gate!, up!];
}
