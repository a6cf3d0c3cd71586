import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient, probeServer } from '../packages/client/src/index.js';
import type { JobRequest, TrainedOrigin } from '../packages/contracts/src/index.js';
import { readModelFolder } from '../packages/model-folder/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { FAMILY_ROWS, QUANTIZED_DIR, writeFamilyModel } from './family-models.mjs';

// Tiny models that bitsandbytes has quantized, in the complete product: trained, published, asked, merged and exported.

const CASES = [
  { name: 'nf4-nested', dtype: 'nf4', precision: 'bfloat16' },
  { name: 'nf4-mixed', dtype: 'nf4', precision: 'float32' },
  { name: 'fp4-plain', dtype: 'fp4', precision: 'bfloat16' },
] as const;

let folder: string;
let stack: { apiUrl: string; stop(): Promise<void> };
let client: ReturnType<typeof createClient>;
let dataset: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-quantized-'));
  await makeDataFolder(path.join(folder, 'data'));
  for (const { name } of CASES) await writeFamilyModel(name, path.join(folder, 'models', name), QUANTIZED_DIR);
  // The specifier is computed because the file is JavaScript without declarations.
  const { startStack } = await import(new URL('../scripts/stack/start-stack.mjs', import.meta.url).href);
  stack = await startStack({ dataDir: path.join(folder, 'data'), modelsDir: path.join(folder, 'models') });
  client = createClient({ baseUrl: stack.apiUrl });
  dataset = (await client.uploadDataset({ text: FAMILY_ROWS.map((row) => JSON.stringify(row)).join('\n') })).id;
});

afterAll(async () => {
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe.each(CASES)('$name in $precision', ({ name, dtype, precision }) => {
  let id: string;

  test('is listed, trained and published, and answers', async () => {
    const models = await client.models();
    expect(models.find((model) => model.name === name)).toMatchObject({ dtype, problem: null });
    const request: JobRequest = {
      base_model: name,
      dataset,
      validation: { split: 0.25 },
      lora: { r: 4, alpha: 8, target_modules: 'all-linear' },
      training: { epochs: 8, batch_size: 4, learning_rate: 0.01, precision },
    };
    const job = await client.waitForJob((await client.createJob(request)).id);
    expect(job).toMatchObject({ status: 'succeeded', error: null });
    id = job.adapter!;
    const manifest = await client.manifest(id);
    const { result } = manifest.origin as TrainedOrigin;
    expect(result.evaluation_after?.loss).toBeLessThan(result.evaluation_before?.loss ?? 0);
    const probe = await probeServer(manifest, { url: `${stack.apiUrl}/v1`, model: id });
    expect(probe).toMatchObject({ verdict: 'adapter' });
  });

  test('is merged into a model that is not quantized, and answers as with its adapter', async () => {
    const merged = path.join(folder, 'models', `${name}-merged`);
    await client.downloadAdapter(id, { folder: merged }, { weights: 'merged' });
    const became = await readModelFolder(merged);
    expect(became.quantized.size).toBe(0);
    expect(became.dtype).toBe('bfloat16');
    expect([...became.tensors.keys()].filter((tensor) => /absmax|quant/.test(tensor))).toEqual([]);
    const base = await readModelFolder(path.join(folder, 'models', name));
    expect(became.parameterCount).toBe(base.parameterCount);
    expect(JSON.parse(await readFile(path.join(merged, 'config.json'), 'utf8'))).not.toHaveProperty(
      'quantization_config',
    );
    const served = { url: `${stack.apiUrl}/v1`, model: `${name}-merged` };
    expect(await probeServer(await client.manifest(id), served)).toMatchObject({ verdict: 'adapter' });
  });

  test('is exported as GGUF', async () => {
    const exported = path.join(folder, `${name}-gguf`);
    await client.downloadAdapter(id, { folder: exported }, { weights: 'merged', format: 'gguf' });
    const file = (await readdir(exported)).find((entry) => entry.endsWith('.gguf'))!;
    expect((await readFile(path.join(exported, file))).subarray(0, 4).toString()).toBe('GGUF');
  });
});
