import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { checkFolder } from './check-folder.js';
import { isWithin } from './comparison.js';

const fixture = (name: string) => fileURLToPath(new URL(`../../../../test/fixtures/${name}`, import.meta.url));

describe.each([
  'reference/llama-tied',
  'reference/llama-untied-all-linear',
  'reference/qwen2',
  'llama-biases-llama3-rope',
])('%s equals PyTorch and PEFT', (name) => {
  test('in float32: logits, loss, gradients, steps, trained adapter, merged weights and logits', async () => {
    const comparisons = await checkFolder(fixture(name), 'float32');
    const parts = comparisons.map(({ part }) => part);
    expect(parts).toEqual(
      expect.arrayContaining(['logits', 'loss', 'trained adapter', 'merged weights', 'merged logits']),
    );
    expect(parts.filter((part) => part.startsWith('gradient of')).length).toBeGreaterThanOrEqual(12);
    expect(comparisons.filter((comparison) => !isWithin(comparison))).toEqual([]);
  });

  test('in bfloat16, as near as its rounding allows', async () => {
    const comparisons = await checkFolder(fixture(name), 'bfloat16');
    expect(comparisons.filter((comparison) => !isWithin(comparison))).toEqual([]);
  });
});

test('a classifier equals PyTorch: 20 losses, logits, trained and merged weights', async () => {
  const comparisons = await checkFolder(fixture('reference/linear'), 'float32');
  expect(comparisons).toHaveLength(4);
  expect(comparisons.filter((comparison) => !isWithin(comparison))).toEqual([]);
});
