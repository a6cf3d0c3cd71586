import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient } from '../packages/client/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { writeTinyLlama } from './tiny-llama.js';
import { HAS_ALL_CASES } from './usual-cases.js';

// examples/sweep, with a tiny model in place of the demo's: the best rate is what separate trainings show to be the best.

const RATES = [1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1, 10];
const EXAMPLE = new URL('../examples/sweep/', import.meta.url);

let folder: string;
let stack: { apiUrl: string; stop(): Promise<void> };

describe.runIf(HAS_ALL_CASES)('examples/sweep', () => {
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-sweep-'));
    await makeDataFolder(path.join(folder, 'data'));
    await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
    // The specifiers are computed because the files are JavaScript without declarations.
    const { startStack } = await import(new URL('../scripts/stack/start-stack.mjs', import.meta.url).href);
    stack = await startStack({ dataDir: path.join(folder, 'data'), modelsDir: path.join(folder, 'models') });
  });
  afterAll(async () => {
    await stack?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test('a sweep over learning rates finds the one that eight separate trainings show to be best', async () => {
    const { compareRates, pictureOf } = await import(new URL('compare.mjs', EXAMPLE).href);
    const client = createClient({ baseUrl: stack.apiUrl });
    const file = new URL('problems.jsonl', EXAMPLE).pathname;
    const dataset = await client.uploadDataset({ file });
    const job = {
      base_model: 'tiny-llama',
      dataset: dataset.id,
      validation: { split: 0.2 },
      training: { max_steps: 12, batch_size: 4, max_seq_length: 256, on_overflow: 'truncate' },
    };
    type Row = { rate: number; inSweep: number | null; alone: number | null; losses: [number, number][] };
    const result: { best: number; compared: Row[] } = await compareRates(client, { job, rates: RATES });
    expect(result.compared.map(({ rate }) => rate)).toEqual(RATES);
    for (const { inSweep, alone, losses } of result.compared) {
      expect(losses.at(-1)![0]).toBe(12);
      expect(inSweep).toBe(alone);
    }
    const alone = result.compared.toSorted((one, other) => (one.alone ?? Infinity) - (other.alone ?? Infinity));
    expect(result.best).toBe(alone[0]!.rate);
    // Neither too low a rate nor too high a one.
    expect(RATES.slice(1, -1)).toContain(result.best);
    expect(pictureOf(result).match(/<polyline /g)).toHaveLength(RATES.length + 1);
  });
});
