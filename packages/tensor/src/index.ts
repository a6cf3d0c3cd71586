export * from './arithmetic.js';
export { engine } from './binding.js';
export * from './dtype.js';
export * from './layout.js';
export * from './loss.js';
export * from './matrix.js';
export * from './random.js';
export { dispose, keep, liveTensorCount, scope, Tensor } from './tensor.js';
export * from './transfer.js';
