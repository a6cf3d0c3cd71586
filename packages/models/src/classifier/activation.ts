import type { Activation } from '@lorasmith/model-folder';
import {
  add,
  cast,
  constant,
  erf,
  exponential,
  greater,
  multiply,
  relu,
  scope,
  sigmoid,
  square,
  subtract,
  type Tensor,
  tanh,
} from '@lorasmith/tensor';

/** `f(x)` and `f′(x)`, computed in float32. */
const FUNCTIONS: Record<Activation, { value: (x: Tensor) => Tensor; slope: (x: Tensor) => Tensor }> = {
  relu: { value: relu, slope: (x) => cast(greater(x, constant(0)), 'float32') },
  sigmoid: {
    value: sigmoid,
    slope: (x) => {
      const y = sigmoid(x);
      return multiply(y, subtract(constant(1), y));
    },
  },
  tanh: { value: tanh, slope: (x) => subtract(constant(1), square(tanh(x))) },
  silu: {
    value: (x) => multiply(x, sigmoid(x)),
    slope: (x) => {
      const y = sigmoid(x);
      return add(y, multiply(multiply(x, y), subtract(constant(1), y)));
    },
  },
  // The exact GELU (arXiv:1606.08415), PyTorch's default: x Φ(x), slope Φ(x) + x φ(x).
  gelu: {
    value: (x) => multiply(x, normalCumulative(x)),
    slope: (x) => {
      const density = multiply(exponential(multiply(square(x), constant(-0.5))), constant(1 / Math.sqrt(2 * Math.PI)));
      return add(normalCumulative(x), multiply(x, density));
    },
  },
};

function normalCumulative(x: Tensor): Tensor {
  return multiply(add(erf(multiply(x, constant(Math.SQRT1_2))), constant(1)), constant(0.5));
}

/** The activation of each number, in the dtype of `x`. */
export function activate(x: Tensor, activation: Activation): Tensor {
  return scope(() => cast(FUNCTIONS[activation].value(cast(x, 'float32')), x.dtype));
}

/**
 * Gradient by the activation's input.
 * @param gradient by its output
 * @param x its input, the same shape
 */
export function activationGradient(gradient: Tensor, x: Tensor, activation: Activation): Tensor {
  return scope(() => {
    const slope = FUNCTIONS[activation].slope(cast(x, 'float32'));
    return cast(multiply(cast(gradient, 'float32'), slope), gradient.dtype);
  });
}
