import { expect, test } from 'vitest';
import { add, square } from './arithmetic.js';
import { chooseKernels } from './kernels/kernel-table.js';
import { split } from './layout.js';
import { alias, dispose, keep, liveTensorCount, scope, type Tensor } from './tensor.js';
import { constant, tensorOf, toFloat32Array } from './transfer.js';

const kernels = chooseKernels('raw');

const vector = (...values: number[]) => tensorOf(Float32Array.from(values), [values.length]);

test('a scope frees what is made in it, but not what it returns', () => {
  const before = liveTensorCount();
  let inner: Tensor | undefined;
  const result = scope(() => {
    inner = vector(1, 2);
    return square(inner);
  });
  expect(inner!.disposed).toBe(true);
  expect(result.disposed).toBe(false);
  expect(liveTensorCount()).toBe(before + 1);
  expect([...toFloat32Array(result)]).toEqual([1, 4]);
  result.dispose();
  expect(liveTensorCount()).toBe(before);
});

test('the result of a scope can hold tensors in arrays, objects and maps, at any depth', () => {
  const before = liveTensorCount();
  const result = scope(() => {
    vector(0);
    return {
      list: [vector(1), { deep: vector(2) }],
      map: new Map([['a', [vector(3)]]]),
      nothing: null,
      bytes: new Uint8Array(4),
    };
  });
  expect(liveTensorCount()).toBe(before + 3);
  expect([...toFloat32Array(result.map.get('a')![0]!)]).toEqual([3]);
  dispose(result);
  expect(liveTensorCount()).toBe(before);
});

test('nested: the result of an inner scope belongs to the outer one', () => {
  const before = liveTensorCount();
  const sum = scope(() => {
    const returned = scope(() => {
      vector(9);
      return vector(1, 2);
    });
    expect(liveTensorCount()).toBe(before + 1);
    return add(returned, returned);
  });
  expect(liveTensorCount()).toBe(before + 1);
  expect([...toFloat32Array(sum)]).toEqual([2, 4]);
  sum.dispose();
  expect(liveTensorCount()).toBe(before);
});

test('a tensor of the outer scope is not freed by the inner one, and can be returned through it', () => {
  const before = liveTensorCount();
  scope(() => {
    const outer = vector(5);
    const same = scope(() => outer);
    scope(() => square(outer));
    expect(same.disposed).toBe(false);
    expect([...toFloat32Array(outer)]).toEqual([5]);
  });
  expect(liveTensorCount()).toBe(before);
});

test('keep takes a tensor out of every scope, until it is disposed', () => {
  const before = liveTensorCount();
  let kept: Tensor | undefined;
  scope(() => {
    scope(() => {
      kept = keep(vector(7));
      vector(8);
    });
  });
  expect(liveTensorCount()).toBe(before + 1);
  expect([...toFloat32Array(kept!)]).toEqual([7]);
  dispose(kept);
  expect(liveTensorCount()).toBe(before);
});

test('an error frees every tensor that was made, in each scope that it passes and in an unfinished op', () => {
  const before = liveTensorCount();
  let returned: Tensor | undefined;
  const work = () =>
    scope(() => {
      returned = scope(() => vector(1));
      scope(() => {
        vector(2);
        kernels.matMul(tensorOf(new Float32Array(6), [2, 3]), tensorOf(new Float32Array(8), [4, 2]));
      });
    });
  expect(work).toThrow('MatMul(float32[2,3] float32[4,2])');
  expect(returned!.disposed).toBe(true);
  expect(liveTensorCount()).toBe(before);
});

test('a scope works after one that failed', () => {
  const before = liveTensorCount();
  expect(() =>
    scope(() => {
      throw new Error('the work failed');
    }),
  ).toThrow('the work failed');
  const tensor = vector(1);
  scope(() => {
    vector(2);
  });
  expect(liveTensorCount()).toBe(before + 1);
  tensor.dispose();
  expect(liveTensorCount()).toBe(before);
});

test('asynchronous work is rejected, and its tensors are freed', () => {
  const before = liveTensorCount();
  expect(() => scope(async () => vector(1))).toThrow('must be synchronous');
  expect(liveTensorCount()).toBe(before);
});

test('disposing twice, or of nothing, does nothing; an op on a freed tensor throws and names it', () => {
  const tensor = vector(1);
  tensor.dispose();
  const before = liveTensorCount();
  tensor.dispose();
  dispose([tensor, null, undefined, 3, 'text']);
  expect(liveTensorCount()).toBe(before);
  const other = vector(2);
  expect(() => add(other, tensor)).toThrow('AddV2: input 1 has already been freed');
  expect(() => toFloat32Array(tensor)).toThrow();
  other.dispose();
});

test('a disposed tensor inside a scope is not freed a second time at its end', () => {
  constant(0, 'int32'); // the axis of the split: made once, never freed
  const before = liveTensorCount();
  scope(() => {
    const early = vector(1);
    early.dispose();
    const [first] = split(vector(1, 2), [1, 1], 0);
    dispose(first);
    expect(liveTensorCount()).toBe(before + 2);
  });
  expect(liveTensorCount()).toBe(before);
});

test('constants are made once and stay alive', () => {
  const first = scope(() => constant(0.125));
  expect(first.disposed).toBe(false);
  const before = liveTensorCount();
  scope(() => {
    expect(constant(0.125)).toBe(first);
    expect(constant(0.125, 'bfloat16')).not.toBe(first);
  });
  expect(liveTensorCount()).toBe(before); // they are not counted
  expect([...toFloat32Array(constant(3, 'int32'))]).toEqual([3]);
});

test('a tensor knows its size', () => {
  scope(() => {
    const tensor = tensorOf(new Float32Array(24), [2, 3, 4]);
    expect(tensor).toMatchObject({ shape: [2, 3, 4], dtype: 'float32', size: 24, sizeBytes: 96 });
    expect(constant(1, 'bfloat16')).toMatchObject({ shape: [], size: 1, sizeBytes: 2 });
  });
});

test('an alias outlives its original; the last of the handles frees the memory', () => {
  const before = liveTensorCount();
  const x = vector(0, 1, 2);
  const other = alias(x);
  const third = alias(other);
  expect(liveTensorCount()).toBe(before + 1);
  x.dispose();
  x.dispose();
  expect([...toFloat32Array(other)]).toEqual([0, 1, 2]);
  expect(() => alias(x)).toThrow('already been freed');
  expect(() => square(x)).toThrow('already been freed');
  scope(() => void alias(third));
  dispose([other]);
  expect([...toFloat32Array(third)]).toEqual([0, 1, 2]);
  expect(liveTensorCount()).toBe(before + 1);
  third.dispose();
  expect(liveTensorCount()).toBe(before);
});
