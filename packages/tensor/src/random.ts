import { execute, typeAttribute } from './execute.js';
import type { Tensor } from './tensor.js';
import { tensorOf } from './transfer.js';

/**
 * Uniform numbers in [0, 1), the same for the same seed on every device (Philox, counter based). There is no generator
 * state, so a resumed run draws the same numbers as an uninterrupted one.
 * @param seed two integers below 2^31
 */
export function randomUniform(shape: readonly number[], seed: readonly [number, number]): Tensor {
  const shapeVector = tensorOf(Int32Array.from(shape), [shape.length]);
  const seedVector = tensorOf(Int32Array.from(seed), [2]);
  const attributes = [typeAttribute('T', 'int32'), typeAttribute('Tseed', 'int32'), typeAttribute('dtype', 'float32')];
  const result = execute('StatelessRandomUniform', attributes, [shapeVector, seedVector]);
  shapeVector.dispose();
  seedVector.dispose();
  return result;
}
