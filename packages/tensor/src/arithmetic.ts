import { boolAttribute, elementType, execute, typeAttribute } from './execute.js';
import type { Tensor } from './tensor.js';
import { constant, parameterVector } from './transfer.js';

// Element by element, with NumPy's broadcasting.
const binary =
  (name: string) =>
  (a: Tensor, b: Tensor): Tensor =>
    execute(name, [elementType(a)], [a, b]);
const unary =
  (name: string) =>
  (x: Tensor): Tensor =>
    execute(name, [elementType(x)], [x]);

export const add = binary('AddV2');
export const subtract = binary('Sub');
export const multiply = binary('Mul');
export const divide = binary('RealDiv');
export const maximum = binary('Maximum');
export const minimum = binary('Minimum');
export const square = unary('Square');
export const squareRoot = unary('Sqrt');
export const reciprocalSquareRoot = unary('Rsqrt');
export const exponential = unary('Exp');
export const sigmoid = unary('Sigmoid');
export const tanh = unary('Tanh');
export const relu = unary('Relu');
/** The error function, for the exact GELU. */
export const erf = unary('Erf');
/** Softmax over the last axis. */
export const softmax = unary('Softmax');

/** `a > b` for each number, as booleans. */
export function greater(a: Tensor, b: Tensor): Tensor {
  return execute('Greater', [elementType(a)], [a, b]);
}

/** `a >= b` for each number, as booleans. */
export function greaterEqual(a: Tensor, b: Tensor): Tensor {
  return execute('GreaterEqual', [elementType(a)], [a, b]);
}

function reduction(name: string) {
  return (x: Tensor, axis: number | 'all', options: { keepDims?: boolean } = {}): Tensor => {
    const axes = axis === 'all' ? [...x.shape.keys()] : [axis < 0 ? axis + x.shape.length : axis];
    const attributes = [
      elementType(x),
      typeAttribute('Tidx', 'int32'),
      boolAttribute('keep_dims', options.keepDims ?? false),
    ];
    return execute(name, attributes, [x, parameterVector(axes)]);
  };
}

export const sum = reduction('Sum');
export const mean = reduction('Mean');
export const max = reduction('Max');

/** Index of the largest number along the last axis, int32; the first of equal ones. */
export function argMax(x: Tensor): Tensor {
  const attributes = [elementType(x), typeAttribute('Tidx', 'int32'), typeAttribute('output_type', 'int32')];
  return execute('ArgMax', attributes, [x, constant(x.shape.length - 1, 'int32')]);
}
