import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient, probeServer } from '../packages/client/src/index.js';
import type { JobRequest, TrainedOrigin } from '../packages/contracts/src/index.js';
import { readModelFolder } from '../packages/model-folder/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { FAMILY_ROWS, QUANTIZED_DIR, writeCharacterTokenizer, writeFamilyModel } from './family-models.mjs';
import { SMALL_MIXTURE, writeRandomModel } from './random-model.js';
import { HAS_ALL_CASES, usualCases } from './usual-cases.js';

// Tiny models that bitsandbytes has quantized, or with weights in 8 bits, in the complete product: trained, published, asked, merged and exported.

const CASES = [
  { name: 'nf4-nested', dtype: 'nf4', precision: 'bfloat16' },
  { name: 'nf4-mixed', dtype: 'nf4', precision: 'float32' },
  { name: 'fp8-blocks', dtype: 'fp8', precision: 'bfloat16' },
  { name: 'fp4-plain', dtype: 'fp4', precision: 'bfloat16' },
  { name: 'fp8-one-scale', dtype: 'fp8', precision: 'float32' },
  { name: 'nf4-experts', dtype: 'nf4', precision: 'bfloat16', parameters: ['gate_up_proj', 'down_proj'] },
] as const satisfies { name: string; dtype: string; precision: string; parameters?: readonly string[] }[];

/** A model, and what bitsandbytes has made of it. */
const [ORIGINAL, STORED] = ['original', 'nf4-original'];

let folder: string;
let stack: { apiUrl: string; stop(): Promise<void> };
let client: ReturnType<typeof createClient>;
let dataset: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-quantized-'));
  await makeDataFolder(path.join(folder, 'data'));
  for (const { name } of [...CASES, { name: STORED }]) {
    await writeFamilyModel(name, path.join(folder, 'models', name), QUANTIZED_DIR);
  }
  await writeFamilyModel(STORED, path.join(folder, 'models', ORIGINAL), QUANTIZED_DIR, 'original');
  await writeRandomModel(path.join(folder, 'models/mixture'), SMALL_MIXTURE);
  await writeCharacterTokenizer(path.join(folder, 'models/mixture'));
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

describe.each(usualCases(CASES, 1))('$name in $precision', ({ name, dtype, precision, ...adapted }) => {
  let id: string;

  test('is listed, trained and published, and answers', async () => {
    const models = await client.models();
    expect(models.find((model) => model.name === name)).toMatchObject({ dtype, problem: null });
    const ofExperts = 'parameters' in adapted ? { target_parameters: [...adapted.parameters] } : {};
    const request: JobRequest = {
      base_model: name,
      dataset,
      validation: { split: 0.25 },
      lora: { r: 4, alpha: 8, target_modules: 'all-linear', ...ofExperts },
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
    expect([...became.tensors.keys()].filter((tensor) => /absmax|quant|scale/.test(tensor))).toEqual([]);
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

describe('a model that is quantized when it is loaded', () => {
  const request = (base_model: string, training: JobRequest['training'] = {}): JobRequest => ({
    ...{ base_model, dataset, validation: { split: 0.25 } },
    lora: { r: 4, alpha: 8, dropout: 0.1, target_modules: 'all-linear' },
    training: { epochs: 8, batch_size: 4, learning_rate: 0.01, precision: 'bfloat16', ...training },
    samples: { prompts: ['abcd'], max_tokens: 8 },
  });
  const trained = async (job: Promise<{ id: string }>) => {
    const ended = await client.waitForJob((await job).id);
    expect(ended).toMatchObject({ status: 'succeeded', error: null });
    return ended.adapter!;
  };
  const downloaded = async (id: string, options: object, file: string) => {
    const target = path.join(folder, `download-${++downloads}`);
    await client.downloadAdapter(id, { folder: target }, options);
    return await readFile(path.join(target, file));
  };
  let downloads = 0;
  let made: string;
  let stored: string;
  let exact: string;

  beforeAll(async () => {
    // At once, so that the worker decides which share a base model.
    [made, stored, exact] = (await Promise.all([
      trained(client.createJob(request(ORIGINAL, { base_quantization: 'nf4' }))),
      trained(client.createJob(request(STORED))),
      trained(client.createJob(request(ORIGINAL))),
    ])) as [string, string, string];
  });

  test('trains the same numbers as on the folder that bitsandbytes has made of it', async () => {
    const numbers = async (id: string) => await downloaded(id, {}, 'adapter_model.safetensors');
    expect(Buffer.compare(await numbers(made), await numbers(stored))).toBe(0);
    expect(Buffer.compare(await numbers(made), await numbers(exact))).not.toBe(0);
    const samplesOf = async (id: string) => ((await client.manifest(id)).origin as TrainedOrigin).result.samples;
    expect(await samplesOf(made)).toEqual(await samplesOf(stored));
  });

  test('says so in the job, the manifest and the model card', async () => {
    const quantization = { type: 'nf4', double_quantization: true };
    const { base_model, origin } = await client.manifest(made);
    expect(base_model.quantization).toEqual({ ...quantization, on_load: true });
    expect((origin as TrainedOrigin).settings.training.base_quantization).toBe('nf4');
    expect((await client.manifest(stored)).base_model.quantization).toEqual({ ...quantization, on_load: false });
    expect((await client.manifest(exact)).base_model.quantization).toBeNull();
    const jobs = (await client.listJobs()).data.filter(({ training }) => training.base_quantization === 'nf4');
    expect(jobs.map(({ adapter }) => adapter)).toEqual([made]);
    const settings = [
      ...['load_in_4bit=True', 'bnb_4bit_quant_type="nf4"', 'bnb_4bit_use_double_quant=True'],
      'bnb_4bit_compute_dtype=torch.bfloat16',
    ];
    for (const id of [made, stored]) {
      const card = String(await downloaded(id, {}, 'README.md'));
      for (const setting of settings) expect(card).toContain(`    ${setting},`);
    }
    expect(String(await downloaded(made, {}, 'README.md'))).toContain('quantization_config=quantization');
    expect(String(await downloaded(exact, {}, 'README.md'))).not.toContain('BitsAndBytesConfig');
  });

  test('answers with its adapter on the quantized model', async () => {
    for (const id of [made, exact]) {
      const manifest = await client.manifest(id);
      const { verdict, adapter_distance } = await probeServer(manifest, { url: `${stack.apiUrl}/v1`, model: id });
      expect({ verdict, adapter_distance }).toEqual({ verdict: 'adapter', adapter_distance: expect.any(Number) });
      expect(adapter_distance).toBeLessThan(1e-3);
    }
  });

  test('is merged into the decoded model, and exported as GGUF', async () => {
    const merged = async (id: string) => await downloaded(id, { weights: 'merged' }, 'model.safetensors');
    expect(Buffer.compare(await merged(made), await merged(stored))).toBe(0);
    expect(Buffer.compare(await merged(made), await merged(exact))).not.toBe(0);
    const gguf = async (id: string) => {
      const options = { weights: 'merged', format: 'gguf', type: 'f16' } as const;
      return await downloaded(id, options, `${id}-merged-f16.gguf`);
    };
    // Its header has names; its numbers are at the end.
    const numbers = (file: Buffer) => file.subarray(file.length - 40_000);
    const [ofMade, ofStored, ofExact] = [await gguf(made), await gguf(stored), await gguf(exact)].map(numbers);
    expect(Buffer.compare(ofMade!, ofStored!)).toBe(0);
    expect(Buffer.compare(ofMade!, ofExact!)).not.toBe(0);
  });

  test('is continued only in the form in which it was trained, and a model in 4 bits is not quantized again', async () => {
    const refused = async (asked: JobRequest) => await client.createJob(asked).catch((error: unknown) => error);
    const from = (base_quantization: 'none' | 'nf4'): JobRequest => ({
      ...request(ORIGINAL, { base_quantization, epochs: 1 }),
      lora: { init_from: made },
    });
    expect(await refused(from('none'))).toMatchObject({
      code: 'invalid_adapter',
      message: expect.stringContaining('with base_quantization "nf4", not "none"'),
    });
    await trained(client.createJob(from('nf4')));
    expect(await refused(request(STORED, { base_quantization: 'nf4' }))).toMatchObject({
      code: 'invalid_job',
      message: expect.stringContaining('has quantized weights (nf4) already'),
      param: 'training.base_quantization',
    });
  });
});

test.runIf(HAS_ALL_CASES)('a mixture is trained with its experts in 4 bits, answers, and is merged', async () => {
  const request: JobRequest = {
    ...{ base_model: 'mixture', dataset },
    validation: { split: 0.25 },
    lora: { r: 4, target_modules: 'all-linear', target_parameters: ['gate_up_proj', 'down_proj'] },
    training: { epochs: 8, batch_size: 4, learning_rate: 0.01, base_quantization: 'nf4' },
  };
  const job = await client.waitForJob((await client.createJob(request)).id);
  expect(job).toMatchObject({ status: 'succeeded', error: null });
  const manifest = await client.manifest(job.adapter!);
  const { base_model, origin } = manifest;
  expect(base_model.quantization).toEqual({ type: 'nf4', double_quantization: true, on_load: true, experts: true });
  const { result } = origin as TrainedOrigin;
  expect(result.evaluation_after?.loss).toBeLessThan(result.evaluation_before?.loss ?? 0);
  const server = { url: `${stack.apiUrl}/v1`, model: manifest.id };
  expect(await probeServer(manifest, server)).toMatchObject({ verdict: 'adapter' });
  const merged = path.join(folder, 'models/mixture-merged');
  await client.downloadAdapter(manifest.id, { folder: merged }, { weights: 'merged' });
  await writeCharacterTokenizer(merged);
  expect(await readModelFolder(merged)).toMatchObject({ dtype: 'bfloat16', quantized: new Map() });
  const asMerged = await probeServer(manifest, { ...server, model: 'mixture-merged' });
  expect(asMerged.verdict).toBe('adapter');
});
