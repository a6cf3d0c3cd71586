import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { datasetIdOf } from '@lorasmith/artifacts';
import type { KeyId, UploadedDataset } from '@lorasmith/contracts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { jobSpecOf } from '../src/jobs/job-inputs.js';
import { Preflight } from '../src/jobs/preflight.js';
import type { PlannedJobs } from '../src/jobs/preflight-tasks.js';
import { PreflightThreads } from '../src/jobs/preflight-threads.js';
import { promptRows } from './real-api.js';

// Jobs that are planned in real threads with the compiled package: run `npx tsc -b` before.

const [ONE, OTHER] = ['key_1', 'key_2'] as unknown as [KeyId, KeyId];

let folder: string;
const threads = new PreflightThreads(fileURLToPath(new URL('../dist/jobs/preflight-thread.js', import.meta.url)), 1);
let preflight: Preflight;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-preflight-'));
  for (const name of ['tiny-llama', 'slow-llama']) await writeTinyLlama(path.join(folder, 'models', name));
  const template = path.join(folder, 'models/slow-llama/chat_template.jinja');
  // Within the limits of one rendering, but all rows take hours.
  const idle = '{% for a in range(600) %}{% for b in range(700) %}{% endfor %}{% endfor %}';
  await writeFile(template, idle + (await readFile(template, 'utf8')));
  preflight = new Preflight({
    threads,
    maxWaiting: 8,
    timeoutMs: 3_600_000,
    budgetMs: 50,
    tokens: { dataDir: folder, maxBytes: 2 ** 30 },
  });
});
afterAll(async () => {
  await threads.close();
  await rm(folder, { recursive: true, force: true });
});

async function jobOn(model: string, rows: number): Promise<PlannedJobs> {
  const text = promptRows(rows);
  const rowsFile = path.join(folder, `${rows}.jsonl`);
  await writeFile(rowsFile, text);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const dataset: UploadedDataset = {
    id: datasetIdOf(sha256, null),
    object: 'dataset',
    owner: null,
    sha256,
    name: null,
    format: 'prompt_completion',
    rows,
    bytes: text.length,
    features: null,
    warnings: [],
    created_at: new Date().toISOString(),
  };
  const specs = [jobSpecOf({ base_model: model, dataset: dataset.id })];
  return {
    specs,
    modelsDir: path.join(folder, 'models'),
    dataset,
    rowsFile,
    validation: null,
    initial: null,
    machine: null,
  };
}

test('dry runs that take long keep none waiting that do not, of their key neither', async () => {
  const large = await jobOn('slow-llama', 20_000);
  const ended: unknown[] = [];
  const running = Array.from({ length: 4 }, () =>
    preflight.report(large, ONE).then(
      () => ended.push('planned'),
      (error: unknown) => ended.push(error),
    ),
  );
  const small = await jobOn('tiny-llama', 24);
  for (const owner of [OTHER, ONE, null]) {
    const [report] = await preflight.report(small, owner);
    expect(report).toMatchObject({ result: { rows: { total: 24 } } });
    const [checked] = await preflight.check(small, owner);
    expect(checked).toHaveProperty('result');
  }
  expect(ended).toEqual([]);
  await threads.close();
  await Promise.all(running);
});
