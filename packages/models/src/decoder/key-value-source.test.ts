import { dispose, liveTensorCount, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { KeyValueSource, SharedKeysAndValues } from './shared-keys-values.js';

const SHAPE = { heads: 2, keyValueHeads: 1, headDim: 4 };
const TOKENS = 3;
const QUERIES = SHAPE.heads * SHAPE.headDim;
const KEYS = SHAPE.keyValueHeads * SHAPE.headDim;

/** Three layers: the second makes keys, which are its values, and the third reads them. */
const sources = () => {
  const own = { kind: 'attention', scale: 1, window: null, rope: 0 } as const;
  const mixers = [own, { ...own, keysAreValues: true }, { ...own, keysAreValues: true, keysAndValuesOf: 1 }];
  const architecture = { layers: mixers.map((mixer) => ({ mixer, mlp: { kind: 'dense' } as const })) };
  const [, owner, reader] = mixers.map((_, index) => new KeyValueSource(architecture, index, SHAPE));
  return { owner: owner!, reader: reader! };
};

const OWN = normalNumbers(TOKENS * (QUERIES + KEYS), 1);
const READER = normalNumbers(TOKENS * QUERIES, 2);
const BY_OUTPUT = [3, 4].map((seed) => normalNumbers(TOKENS * (QUERIES + 2 * KEYS), seed));
const tensor = (values: Float32Array<ArrayBuffer>) => tensorOf(values, [TOKENS, values.length / TOKENS]);

/** The queries, keys and values that attention of owner and reader gets. */
function forward(own: Tensor, reading: Tensor, shared: SharedKeysAndValues): [owner: Tensor, reader: Tensor] {
  const { owner, reader } = sources();
  const joined = owner.joined(owner.withValues(own), shared);
  return [joined, reader.joined(reader.withValues(reading), shared)];
}

/** A number that depends on all that attention gets. */
function loss(own: Float32Array<ArrayBuffer>): number {
  return scope(() => {
    const shared = new SharedKeysAndValues();
    const outputs = forward(tensor(own), tensor(READER), shared);
    const sum = outputs.reduce((all, output, i) => all + weightedSum(toFloat32Array(output), BY_OUTPUT[i]!), 0);
    shared.dispose();
    return sum;
  });
}

test('the owner of keys and values has the gradient of all that read them, as finite differences', () => {
  const gradient = scope(() => {
    const { owner, reader } = sources();
    const shared = new SharedKeysAndValues();
    dispose(forward(tensor(OWN), tensor(READER), shared));
    const byReader = reader.withoutValues(reader.parted(tensor(BY_OUTPUT[1]!), shared));
    expect(byReader.shape).toEqual([TOKENS, QUERIES]);
    const byOwn = owner.withoutValues(owner.parted(tensor(BY_OUTPUT[0]!), shared));
    shared.dispose();
    return toFloat32Array(byOwn);
  });
  expect(differenceByLargest(gradient, centralDifferences(loss, OWN))).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
});

test('nothing stays alive, also where the owner has no backward pass', () => {
  const before = liveTensorCount();
  scope(() => {
    const shared = new SharedKeysAndValues();
    dispose(forward(tensor(OWN), tensor(READER), shared));
    dispose(sources().reader.parted(tensor(BY_OUTPUT[1]!), shared));
    shared.dispose();
    expect(liveTensorCount()).toBe(before);
  });
});

test('a layer that reads keys and values before they are made is an error', () => {
  scope(() => {
    const { reader } = sources();
    expect(() => reader.joined(tensor(READER), new SharedKeysAndValues())).toThrow(
      'layer 1 has made no keys and values',
    );
  });
});
