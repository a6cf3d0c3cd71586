import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LoraAdapter, readPeftFolder } from '@lorasmith/lora';
import { readModelFolder } from '@lorasmith/model-folder';
import { loadDecoder } from '@lorasmith/models';
import { liveTensorCount, toFloat32Array, useFusedOps, useRawOps } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from './check-reference/comparison.js';
import { ReferenceBatch } from './check-reference/reference-case.js';

const FIXTURES = fileURLToPath(new URL('../../../test/fixtures', import.meta.url));
const CASES = [
  ...['llama-tied', 'llama-untied-all-linear', 'qwen2'].map((name) => join(FIXTURES, 'reference', name)),
  ...readdirSync(join(FIXTURES, 'families'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(FIXTURES, 'families', name)),
];

describe.each(CASES.map((folder) => ({ name: folder.slice(FIXTURES.length + 1), folder })))('$name', ({ folder }) => {
  test.each([
    ['fused', useFusedOps],
    ['raw', useRawOps],
  ] as const)(
    'layers computed again give the gradients of kept ones, dropout included, with %s kernels',
    async (_, use) => {
      use();
      const model = await loadDecoder(await readModelFolder(join(folder, 'base')), 'float32');
      const initial = await readPeftFolder(join(folder, 'adapter_init'));
      const adapter = new LoraAdapter(model.slots, {
        targets: [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale })),
        dropout: 0.2,
        seed: 3,
        initial,
      });
      const batch = (await ReferenceBatch.read(folder)).asTokenBatch();
      const run = (recompute: boolean) => {
        model.recompute = recompute;
        adapter.seedDropout(3, 1);
        const { lossSum } = model.lossAndGradients(batch);
        const gradient = adapter.takeGradient();
        const numbers = toFloat32Array(gradient);
        gradient.dispose();
        return { lossSum, numbers };
      };
      const kept = run(false);
      const handles = liveTensorCount();
      const again = run(true);
      expect(liveTensorCount()).toBe(handles);
      expect(again.lossSum).toBeCloseTo(kept.lossSum, 4);
      const largest = kept.numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(largest).toBeGreaterThan(0);
      expect(greatestDifference(again.numbers, kept.numbers) / largest).toBeLessThan(1e-5);
      adapter.detach();
      model.dispose();
    },
  );
});
