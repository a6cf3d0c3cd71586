import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';

// The specifiers are computed because the files are JavaScript without declarations.
const scripts = (name: string) => import(new URL(`../checks/gpu-check/${name}`, import.meta.url).href);
const { kernelArguments, kernelChoice, kernelsOf } = await scripts('kernel-choice.mjs');
const { readLaunches, neverLaunched } = await scripts('run-part.mjs');
const { publishedLines } = await scripts('../../bench/cards.mjs');

const wrong = { name: 'a case', subject: { kind: 'kernel', name: 'lora:bfloat16' }, fault: 'differs' };
const wrongOp = { name: 'a sum', subject: { kind: 'op', name: 'Sum' }, fault: 'differs' };

test.each([
  ['all', { done: true, trusted: true, avoided: [], cases: [] }, 'fused', []],
  ['those not avoided', { done: true, trusted: true, avoided: ['b', 'a'], cases: [] }, 'fused', ['a', 'b']],
  ['plain ones', { done: true, trusted: true, kernels: 'raw', avoided: [], cases: [] }, 'raw', []],
  ['those right so far', { done: false, cases: [wrong, wrong, wrongOp] }, 'fused', ['lora:bfloat16']],
  ['those right', { done: true, trusted: false, avoided: ['a'], cases: [wrongOp] }, 'fused', ['a']],
  ['all, without a test', null, 'fused', []],
])('parts compute with %s', (_, selfTest, kernels, avoided) => {
  const choice = kernelChoice(selfTest);
  expect(choice).toMatchObject({ kernels, avoided });
  const [, kind, , names = ''] = kernelArguments(choice);
  expect(kernelsOf({ kernels: kind, avoid: names })).toEqual([kernels, { avoid: avoided }]);
});

test('the report says under what the parts computed', () => {
  expect(kernelChoice(null).why).toContain('was not run');
  expect(kernelChoice({ done: false, cases: [] }).why).toContain('did not end');
  expect(kernelChoice({ done: true, trusted: false, avoided: [], cases: [] }).why).toContain('does not trust');
  expect(kernelChoice({ done: true, trusted: true, avoided: ['a'], cases: [] }).why).toBe(
    'the fused kernels without a',
  );
});

test('launches are those of all processes, and a kernel without any is named', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'gpu-check-launches-'));
  try {
    await writeFile(path.join(folder, '1.json'), '{"One":2,"Two":1}');
    await writeFile(path.join(folder, '2.json'), '{"One":3}');
    await writeFile(path.join(folder, '3.json.partial'), '{"Three"');
    const launches = await readLaunches(folder);
    expect(launches).toEqual({ One: 5, Two: 1 });
    const kernels = ['Three', 'One', 'Two', 'Three'].map((name) => ({ name }));
    expect(neverLaunched(kernels, launches)).toEqual(['Three']);
  } finally {
    await rm(folder, { recursive: true });
  }
  expect(await readLaunches(folder)).toEqual({});
});

test('a published rate is shown for its card, model and size alone', () => {
  const sizes = [{ rows: 2, length: 4096, tokens_per_second: 12_000 }];
  expect(publishedLines('NVIDIA H100 80GB HBM3', '8B', sizes)).toEqual([
    expect.stringMatching(/^Published, another machine: NVIDIA NeMo.*12473 tokens\/s; here 12000, 0\.96 ×\.$/),
  ]);
  expect(publishedLines('NVIDIA H100 80GB HBM3', '1B', sizes)).toEqual([]);
  expect(publishedLines('NVIDIA A100', '8B', sizes)).toEqual([]);
  expect(publishedLines('NVIDIA GeForce RTX 4090', '8B in NF4', [{ ...sizes[0], length: 2048 }])).toHaveLength(1);
});
