import { expect, test } from 'vitest';
import { inferLlama3Scaling, llama3Factors } from './rope-factors.js';

const released = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

test.each([8, 32])('infers factor %i of a Llama 3 release', (factor) => {
  const factors = Float32Array.from(llama3Factors({ factor, ...released }, 500_000, 128));
  expect(factors[0]).toBe(1);
  expect(factors.at(-1)).toBe(factor);
  expect(inferLlama3Scaling(factors, 500_000)).toEqual({ factor, ...released });
});

test.each([
  [
    'another original length',
    llama3Factors({ factor: 8, ...released, original_max_position_embeddings: 4096 }, 5e5, 128),
  ],
  ['factors of another kind', [1, 2, 3, 4]],
  ['below 1', [0.5, 0.5]],
  ['NaN', [1, Number.NaN, 8, 8]],
  ['none', []],
])('%s is not recognised', (_, factors) => {
  expect(inferLlama3Scaling(Float32Array.from(factors), 500_000)).toBeNull();
});
