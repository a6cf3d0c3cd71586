import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient, probeServer } from '../packages/client/src/index.js';
import type { TrainedOrigin } from '../packages/contracts/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { FAMILY_ROWS } from './family-models.mjs';
import { writePublishedModel } from './published-models.js';

// Models of published structures, their widths scaled down, trained through the HTTP API: as many layers, of the same kinds.

const PUBLISHED = fileURLToPath(new URL('fixtures/published', import.meta.url));
const FAMILIES = (await readdir(PUBLISHED)).map((file) => path.parse(file).name).sort();
/** They take minutes: `npm run test:all -- --only published`. */
const isAsked = process.env.PUBLISHED === '1';

const EPOCHS = 8;
/** The rate of all trainings: at ten times as much PEFT, too, diverges on some of these models, of random weights in 32 layers. */
const LEARNING_RATE = 0.001;

let folder: string;
let stack: { apiUrl: string; stop(): Promise<void> };
let client: ReturnType<typeof createClient>;
let dataset: string;

beforeAll(async () => {
  if (!isAsked) return;
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-published-'));
  await makeDataFolder(path.join(folder, 'data'));
  for (const family of FAMILIES) await writePublishedModel(family, path.join(folder, 'models', family));
  // The specifier is computed because the file is JavaScript without declarations.
  const { startStack } = await import(new URL('../scripts/stack/start-stack.mjs', import.meta.url).href);
  stack = await startStack({ dataDir: path.join(folder, 'data'), modelsDir: path.join(folder, 'models') });
  client = createClient({ baseUrl: stack.apiUrl });
  dataset = (await client.uploadDataset({ text: FAMILY_ROWS.map((row) => JSON.stringify(row)).join('\n') })).id;
});

afterAll(async () => {
  if (!isAsked) return;
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

test.runIf(isAsked).each(FAMILIES)(
  '%s in its published structure is trained, and its adapter answers',
  async (family) => {
    const { id } = await client.createJob({
      base_model: family,
      dataset,
      validation: { split: 0.25 },
      training: {
        epochs: EPOCHS,
        batch_size: 4,
        learning_rate: LEARNING_RATE,
        lr_scheduler: 'constant',
        precision: 'float32',
      },
    });
    const job = await client.waitForJob(id);
    expect(job).toMatchObject({ status: 'succeeded', error: null });
    const manifest = await client.manifest(job.adapter ?? '');
    const { result } = manifest.origin as TrainedOrigin;
    const stepsOfEpoch = result.steps / EPOCHS;
    expect(mean(result.losses.slice(-stepsOfEpoch))).toBeLessThan(mean(result.losses.slice(0, stepsOfEpoch)));
    const probe = await probeServer(manifest, { url: `${stack.apiUrl}/v1`, model: manifest.id });
    // Base and adapter may be too similar for a verdict; the server has the log-probabilities that were recorded in training.
    expect(probe.adapter_distance).toBeCloseTo(0, 3);
  },
);

const mean = (numbers: readonly number[]) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
