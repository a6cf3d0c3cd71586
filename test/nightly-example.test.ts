import { mkdtemp, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient } from '../packages/client/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { writeTinyLlama } from './tiny-llama.js';
import { HAS_ALL_CASES } from './usual-cases.js';

// examples/nightly, with a tiny model in place of the demo's, and a folder that follows the name.

const EXAMPLE = new URL('../examples/nightly/night.mjs', import.meta.url);
const NAME = 'nightly-bot';

let folder: string;
let stack: { apiUrl: string; stop(): Promise<void> };

describe.runIf(HAS_ALL_CASES)('examples/nightly', () => {
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-nightly-'));
    await makeDataFolder(path.join(folder, 'data'));
    await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
    // The specifiers are computed because the files are JavaScript without declarations.
    const { startStack } = await import(new URL('../scripts/stack/start-stack.mjs', import.meta.url).href);
    stack = await startStack({
      dataDir: path.join(folder, 'data'),
      modelsDir: path.join(folder, 'models'),
      env: { ...process.env, DELIVERY_FOLDER: path.join(folder, 'delivered') },
    });
  });
  afterAll(async () => {
    await stack?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const delivered = async () => path.basename(await readlink(path.join(folder, 'delivered/folders', NAME)));

  test('a better adapter is delivered under the name, a worse one is not, and a night that is run twice trains once', async () => {
    const { runNight } = await import(EXAMPLE.href);
    const client = createClient({ baseUrl: stack.apiUrl });
    const file = (name: string) => readFile(new URL(`../examples/dates/${name}`, import.meta.url), 'utf8');
    const lines = (await file('train.jsonl')).split('\n');
    const heldOut = (await file('heldout.jsonl')).split('\n').slice(0, 8).join('\n');
    const night = (number: number, learningRate: number) =>
      runNight(client, {
        ...{ name: NAME, date: `2026-12-0${number}`, heldOut, baseModel: 'tiny-llama', maxWorse: 0 },
        rows: lines.slice(20 * (number - 1), 20 * number).join('\n'),
        deliver: [{ kind: 'folder', name: NAME }],
        settings: { training: { epochs: 1, batch_size: 4, learning_rate: learningRate, max_seq_length: 256 } },
      });

    const first = await night(1, 3e-2);
    expect([first.moved, first.deliveries.map(({ status }: { status: string }) => status)]).toEqual([
      true,
      ['delivered'],
    ]);
    expect(await delivered()).toBe(first.job.adapter);

    const second = await night(2, 3e-2);
    expect([second.moved, second.job.lora.init_from]).toEqual([true, first.job.adapter]);
    expect(await delivered()).toBe(second.job.adapter);

    const bad = await night(3, 10);
    expect([bad.moved, bad.why]).toEqual([false, expect.stringContaining('loss')]);
    expect(await delivered()).toBe(second.job.adapter);
    expect((await client.alias(NAME)).adapter).toBe(second.job.adapter);

    const again = await night(2, 3e-2);
    expect(again.job.id).toBe(second.job.id);
    expect((await client.listJobs({ limit: 100 })).total).toBe(3);
    // It is the adapter of the name already.
    expect((await client.alias(NAME)).version).toBe(2);
  });
});
