import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Machine } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { fitOf, largestMachine, type ModelFit } from './model-fit.js';

const GIB = 2 ** 30;
const rates = { float32: {}, bfloat16: {} } as Machine['rates'];
const card = (gib: number) => ({ rates, kernels: 'cuda' as const, memory_bytes: gib * GIB });
/** The parameters of the models of the table in docs/base-models.md. */
const PARAMETERS: Readonly<Record<string, number>> = {
  'Llama 3.2 1B': 1.24e9,
  'Llama 3.2 3B': 3.21e9,
  'Qwen3 4B': 4.02e9,
  'Qwen3 8B': 8.19e9,
  'Llama 3.1 8B': 8.03e9,
  'Gemma 3 12B': 12.2e9,
  'Qwen3 14B': 14.8e9,
  'Qwen3 32B': 32.8e9,
  'Llama 3.3 70B': 70.6e9,
};

test('the rule agrees with the estimates of the table of cards', async () => {
  const file = path.join(import.meta.dirname, '../../../../../docs/base-models.md');
  const table = (await readFile(file, 'utf8')).split('<!-- cards')[1]!.split('<!-- end')[0]!;
  const rows = table
    .split('\n')
    .flatMap((line) => (line.startsWith('|') ? [line.split('|').map((cell) => cell.trim())] : []));
  const sizes = rows[0]!.slice(3, -1).map((title) => Number.parseInt(title, 10));
  const isTaken = (cell: string) => cell !== '–';
  let compared = 0;
  for (const [index, row] of rows.entries()) {
    const parameters = PARAMETERS[row[1]!];
    if (parameters === undefined || row[2] !== 'bf16') continue;
    const quantized = rows[index + 1]!;
    for (const [column, gib] of sizes.entries()) {
      const wanted: ModelFit = isTaken(row[column + 3]!)
        ? 'fits'
        : isTaken(quantized[column + 3]!)
          ? 'fits-in-4-bits'
          : 'too-large';
      expect(fitOf({ parameters }, card(gib)), `${row[1]} on ${gib} GB`).toBe(wanted);
      compared += 1;
    }
  }
  expect(compared).toBe(Object.keys(PARAMETERS).length * sizes.length);
});

test('a model that is stored in fewer bits needs less, and one on a processor without bfloat16 more', () => {
  const parameters = 8e9;
  expect(fitOf({ parameters, dtype: 'nf4' }, card(12))).toBe('fits');
  expect(fitOf({ parameters, dtype: 'nf4' }, card(8))).toBe('too-large');
  expect(fitOf({ parameters, dtype: 'fp8' }, card(16))).toBe('fits');
  expect(fitOf({ parameters }, { ...card(24), kernels: 'avx2' })).toBe('fits-in-4-bits');
});

test('what is unknown is not judged', () => {
  expect([fitOf({ parameters: null }, card(8)), fitOf({ parameters: 1e9 }, undefined)]).toEqual([null, null]);
});

test('the largest machine that runs counts, or the largest of all', () => {
  const on = { running: { jobs: 0, jobs_at_once: 1, load: null } };
  const [small, large] = [
    { memory_bytes: 1, ...on },
    { memory_bytes: 9, running: null },
  ];
  expect(largestMachine([large, small])).toBe(small);
  expect(largestMachine([{ ...small, running: null }, large])).toBe(large);
  expect(largestMachine([])).toBeUndefined();
});
