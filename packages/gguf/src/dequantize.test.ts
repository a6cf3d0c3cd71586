import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { TENSOR_TYPES } from './tensor-type.js';

const cases = JSON.parse(readFileSync(new URL('./fixtures/dequantize.json', import.meta.url), 'utf8')) as Record<
  string,
  { blocks: string; values: string }
>;

describe('dequantization equals that of gguf-py, bit for bit:', () => {
  test.each([...TENSOR_TYPES.values()])('$name', ({ name, blockWeights, blockBytes, dequantize }) => {
    const { blocks, values } = cases[name]!;
    const stored = new Uint8Array(Buffer.from(blocks, 'base64'));
    const expected = new Float32Array(new Uint8Array(Buffer.from(values, 'base64')).buffer);
    expect(stored.length / blockBytes).toBe(expected.length / blockWeights);
    const numbers = new Float32Array(expected.length).fill(Number.NaN);
    dequantize(stored, numbers);
    expect(new Uint32Array(numbers.buffer)).toEqual(new Uint32Array(expected.buffer));
  });

  test('every supported type is covered', () => {
    expect(Object.keys(cases).sort()).toEqual([...TENSOR_TYPES.values()].map(({ name }) => name).sort());
  });
});
