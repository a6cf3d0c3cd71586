import { readdirSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chooseKernels } from '@lorasmith/tensor';
import { describe, expect, onTestFinished, test } from 'vitest';
import { familiesByKernels, TESTED_KERNELS } from '../../../../test/usual-cases.js';
import { checkFolder } from './check-folder.js';
import { isWithin } from './comparison.js';

const fixture = (name: string) => fileURLToPath(new URL(`../../../../test/fixtures/${name}`, import.meta.url));

/** One for each family and each rope scaling: test/fixtures/make-reference.py. */
const FAMILIES = familiesByKernels(readdirSync(fixture('families'))).map(({ name, kernels }) => ({
  name: `families/${name}`,
  kernels,
}));
/** Quantized by bitsandbytes: test/fixtures/quantized/make.py. */
const QUANTIZED = readdirSync(fixture('quantized'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => `quantized/${name}`);
const OTHERS = [
  ...QUANTIZED,
  'reference/llama-tied',
  'reference/llama-untied-all-linear',
  'reference/qwen2',
  'llama-biases-llama3-rope',
  'lora-options/patterns',
  'lora-options/lora-plus',
];

test('the fused kernels are there: npm test compiles them', () => {
  expect(chooseKernels('fused').library).not.toBe('tensorflow');
});

const DECODERS = [...FAMILIES, ...OTHERS.flatMap((name) => TESTED_KERNELS.map((kernels) => ({ name, kernels })))];

describe.each(DECODERS)('$name equals PyTorch and PEFT, with $kernels kernels', ({ name, kernels: source }) => {
  const kernels = chooseKernels(source);

  test('float32 equals the reference: logits, loss, gradients, steps, trained adapter, merged weights and logits', async () => {
    const comparisons = await checkFolder(fixture(name), 'float32', kernels);
    const parts = comparisons.map(({ part }) => part);
    expect(parts).toEqual(
      expect.arrayContaining(['logits', 'loss', 'trained adapter', 'merged weights', 'merged logits']),
    );
    expect(parts.filter((part) => part.startsWith('gradient of')).length).toBeGreaterThanOrEqual(6);
    expect(comparisons.filter((comparison) => !isWithin(comparison))).toEqual([]);
  });

  test('bfloat16 is as near to the reference as its rounding allows', async () => {
    const comparisons = await checkFolder(fixture(name), 'bfloat16', kernels);
    expect(comparisons.filter((comparison) => !isWithin(comparison))).toEqual([]);
  });
});

test.each(['fused', 'raw'] as const)('a classifier equals PyTorch, with %s kernels', async (source) => {
  const kernels = chooseKernels(source);
  const comparisons = await checkFolder(fixture('reference/linear'), 'float32', kernels);
  expect(comparisons).toHaveLength(4);
  expect(comparisons.filter((comparison) => !isWithin(comparison))).toEqual([]);
});

test("a case may name LoRA+'s ratio as PEFT does", async () => {
  const kernels = chooseKernels('fused');
  const folder = await mkdtemp(join(tmpdir(), 'lora-plus-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(fixture('lora-options/lora-plus'), folder, { recursive: true });
  const text = await readFile(join(folder, 'case.json'), 'utf8');
  expect(text).toContain('"lora_plus_ratio"');
  await writeFile(join(folder, 'case.json'), text.replace('"lora_plus_ratio"', '"loraplus_lr_ratio"'));
  expect((await checkFolder(folder, 'float32', kernels)).filter((comparison) => !isWithin(comparison))).toEqual([]);
});
