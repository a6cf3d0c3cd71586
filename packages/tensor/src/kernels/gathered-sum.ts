import { add } from '../arithmetic.js';
import { elementType, execute, intAttribute } from '../execute.js';
import { gather, reshape, split } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast } from '../transfer.js';

// What the op computes: see Kernels.

export function fusedGatheredSum(x: Tensor, places: Tensor, count: number): Tensor {
  return execute('LorasmithGatheredSum', [elementType(x), intAttribute('count', count)], [x, places]);
}

export function rawGatheredSum(x: Tensor, places: Tensor, count: number): Tensor {
  const width = x.shape[1]!;
  return scope(() => {
    const rows = gather(x, places); // [sums x count, width]
    const parts = split(reshape(rows, [places.size / count, count * width]), new Array(count).fill(width), 1);
    const [first, ...others] = parts;
    let sum = cast(first!, 'float32');
    for (const part of others) {
      const next = add(sum, cast(part, 'float32'));
      dispose(sum);
      sum = next;
    }
    return cast(sum, x.dtype);
  });
}
