import { add, erf, exponential, greater, multiply, relu, sigmoid, square, subtract, tanh } from '../arithmetic.js';
import { elementType, execute, intAttribute } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';

/** Names as transformers has them. The index of one is the attribute `activation` of a fused op: see native/ops/activation/activation.h. */
export const ACTIVATIONS = ['relu', 'sigmoid', 'tanh', 'silu', 'gelu', 'relu2', 'gelu_tanh', 'quick_gelu'] as const;

export type Activation = (typeof ACTIVATIONS)[number];

const GELU_SCALE = Math.sqrt(2 / Math.PI);
const GELU_CUBIC = 0.044715;
const QUICK_GELU = 1.702;

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
  // max(x, 0)² (So et al. 2021, arXiv:2109.08668).
  relu2: { value: (x) => square(relu(x)), slope: (x) => multiply(relu(x), constant(2)) },
  // x (1 + t) / 2 with t = tanh(√(2/π) (x + 0.044715 x³)).
  gelu_tanh: {
    value: (x) => multiply(multiply(x, constant(0.5)), add(constant(1), geluHeight(x))),
    slope: (x) => {
      const height = geluHeight(x);
      const inner = add(multiply(square(x), constant(3 * GELU_CUBIC * GELU_SCALE)), constant(GELU_SCALE));
      const rise = multiply(multiply(x, inner), subtract(constant(1), square(height)));
      return multiply(add(add(constant(1), height), rise), constant(0.5));
    },
  },
  quick_gelu: {
    value: (x) => multiply(x, sigmoid(multiply(x, constant(QUICK_GELU)))),
    slope: (x) => {
      const y = sigmoid(multiply(x, constant(QUICK_GELU)));
      return add(y, multiply(multiply(multiply(x, constant(QUICK_GELU)), y), subtract(constant(1), y)));
    },
  },
};

function geluHeight(x: Tensor): Tensor {
  const cube = multiply(multiply(square(x), x), constant(GELU_CUBIC));
  return tanh(multiply(add(x, cube), constant(GELU_SCALE)));
}

function normalCumulative(x: Tensor): Tensor {
  return multiply(add(erf(multiply(x, constant(Math.SQRT1_2))), constant(1)), constant(0.5));
}

// What the ops compute: see Kernels.

/** The attribute of the fused ops that have one. */
export const activationAttribute = (activation: Activation) =>
  intAttribute('activation', ACTIVATIONS.indexOf(activation));

export function fusedActivation(x: Tensor, activation: Activation): Tensor {
  return execute('LorasmithActivation', [elementType(x), activationAttribute(activation)], [x]);
}

export function fusedActivationGradient(gradient: Tensor, x: Tensor, activation: Activation): Tensor {
  return execute('LorasmithActivationGradient', [elementType(x), activationAttribute(activation)], [gradient, x]);
}

export function rawActivation(x: Tensor, activation: Activation): Tensor {
  return scope(() => cast(FUNCTIONS[activation].value(cast(x, 'float32')), x.dtype));
}

export function rawActivationGradient(gradient: Tensor, x: Tensor, activation: Activation): Tensor {
  return scope(() => {
    const slope = FUNCTIONS[activation].slope(cast(x, 'float32'));
    return cast(multiply(cast(gradient, 'float32'), slope), gradient.dtype);
  });
}
