import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient, probeServer } from '../packages/client/src/index.js';
import type { Job, JobRequest, TrainedOrigin } from '../packages/contracts/src/index.js';
import { type ExpertParameter, readModelFolder } from '../packages/model-folder/src/index.js';
import { openSafetensors } from '../packages/weight-files/src/index.js';
import { type CheckpointGate, checkpointGate } from './checkpoint-gate.js';
import { makeDataFolder } from './data-folder.js';
import { FAMILY_ROWS, writeFamilyModel } from './family-models.mjs';
import { usualCases } from './usual-cases.js';

// A tiny random model of each family in the complete product: trained, published, sampled, merged, and sampled as what it became.

/** The cases with something that no other has: they cover all that a family may differ in. The last are jobs on the output head. */
const USUAL_CASES = [
  'gpt2',
  'gemma4',
  'granitemoehybrid',
  'mistral3',
  'qwen3_5',
  'qwen3_moe-experts',
  'gpt_oss-experts',
  'head-tied',
];
const OTHER_CASES = [
  ...['exaone4', 'gemma3', 'nemotron', 'olmo3'],
  ...[
    'gpt2-all-linear-options',
    'qwen2-window',
    'rope-dynamic',
    'arcee',
    'ernie4_5',
    'gemma3-text',
    'gemma4-text',
    'glm',
  ],
  ...[
    'glm4',
    'granite',
    'gemma4-text-keys',
    'ministral3',
    'olmo2',
    'seed_oss',
    'smollm3',
    'qwen3_5-text',
    'qwen3_moe',
    'qwen3_moe-fused',
    'qwen3_moe-experts-down',
    'qwen3_5_moe-experts',
    'qwen2_moe',
    'qwen3_5_moe',
    'glm4_moe',
    'deepseek_v3',
    'deepseek_v3-plain',
    'glm4_moe_lite',
    'mistral4',
    'gpt_oss',
    'gemma4_moe',
    'granitemoe-experts',
    'granitemoeshared',
    'qwen3_next',
    'qwen3_next-experts',
    'head',
  ],
];
/** A case of each newer family; the others differ from these in settings that test/fixtures/families compares with transformers. */
const CASES = usualCases([...USUAL_CASES, ...OTHER_CASES], USUAL_CASES.length);
const ON_HEAD = ['head', 'head-tied'];
/** The parameters of experts that are adapted, beside all linear layers. */
const PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  'qwen3_moe-experts': ['gate_up_proj', 'down_proj'],
  'qwen3_moe-experts-down': ['mlp.experts.down_proj'],
  gemma4_moe: ['experts.gate_up_proj', 'experts.down_proj'],
  'granitemoe-experts': ['gate_up_proj', 'down_proj'],
  'qwen3_next-experts': ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj'],
  'qwen3_5_moe-experts': ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj'],
  glm4_moe_lite: ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj'],
  'gpt_oss-experts': ['gate_up_proj', 'down_proj'],
};
/**
 * One with linear attention, one whose experts are adapted, one whose layers share keys, one with an adapter of its head, one with several
 * ropes and a prefix for its files, and one with norms after its branches.
 */
const PAUSED = usualCases(['qwen3_5', 'qwen3_moe-experts', 'gemma4', 'head-tied', 'gemma3', 'olmo3'], 2);
const COMPOSITES = ['gemma3', 'gemma4', 'gemma4_moe', 'mistral3', 'qwen3_5', 'qwen3_5_moe', 'qwen3_5_moe-experts'];
const PROCESSOR_FILES = ['preprocessor_config.json', 'processor_config.json'];
const R = 4;
const ALPHA = 8;

let folder: string;
let stack: { apiUrl: string; stop(): Promise<void> };
let client: ReturnType<typeof createClient>;
let dataset: string;
let gate: CheckpointGate;

const request = (base_model: string): JobRequest => ({
  base_model,
  dataset,
  validation: { split: 0.25 },
  lora: {
    ...{ r: R, alpha: ALPHA },
    target_modules: ON_HEAD.includes(base_model) ? ['q_proj', 'lm_head'] : 'all-linear',
    ...(PARAMETERS[base_model] && { target_parameters: [...PARAMETERS[base_model]] }),
  },
  training: { epochs: 8, batch_size: 4, learning_rate: 0.01, precision: 'float32', checkpoint_every_steps: 8 },
});

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-families-'));
  gate = checkpointGate(path.join(folder, 'gate'));
  await makeDataFolder(path.join(folder, 'data'));
  for (const name of CASES) await writeFamilyModel(name, path.join(folder, 'models', name));
  for (const name of COMPOSITES.filter((composite) => CASES.includes(composite))) {
    for (const file of PROCESSOR_FILES) await writeFile(path.join(folder, 'models', name, file), `{"of": "${name}"}`);
  }
  // The specifier is computed because the file is JavaScript without declarations.
  const { startStack } = await import(new URL('../scripts/stack/start-stack.mjs', import.meta.url).href);
  stack = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir: path.join(folder, 'models'),
    env: { ...process.env, NODE_OPTIONS: gate.nodeOption, ...gate.environment },
  });
  client = createClient({ baseUrl: stack.apiUrl });
  dataset = (await client.uploadDataset({ text: FAMILY_ROWS.map((row) => JSON.stringify(row)).join('\n') })).id;
});

afterAll(async () => {
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

const trained = new Map<string, Job>();

describe.each(CASES)('%s', (name) => {
  test('is trained and published, and answers', async () => {
    const job = await client.waitForJob((await client.createJob(request(name))).id);
    expect(job).toMatchObject({ status: 'succeeded', error: null });
    trained.set(name, job);
    const id = job.adapter ?? '';
    const manifest = await client.manifest(id);
    const { result } = manifest.origin as TrainedOrigin;
    expect(result.evaluation_after?.loss).toBeLessThan(result.evaluation_before?.loss ?? 0);
    const probe = await probeServer(manifest, { url: `${stack.apiUrl}/v1`, model: id });
    expect(probe).toMatchObject({ verdict: 'adapter', adapter_distance: expect.closeTo(0, 4) });
  });

  test('is merged as W + (alpha / r) B A, all other tensors unchanged, and answers as with its adapter', async () => {
    const id = trained.get(name)?.adapter ?? '';
    const merged = path.join(folder, 'models', `${name}-merged`);
    const adapter = path.join(folder, 'adapters', name);
    await client.downloadAdapter(id, { folder: merged }, { weights: 'merged' });
    await client.downloadAdapter(id, { folder: adapter });
    const model = await readModelFolder(path.join(folder, 'models', name));
    const became = await readModelFolder(merged);
    const own = name === 'head-tied' ? ['lm_head.weight'] : [];
    expect([...became.tensors.keys()].sort()).toEqual([...model.tensors.keys(), ...own].sort());
    if (COMPOSITES.includes(name)) {
      expect([...model.tensors.keys()].some((tensor) => /vision|visual/.test(tensor))).toBe(true);
      for (const file of PROCESSOR_FILES) {
        expect(await readFile(path.join(merged, file), 'utf8')).toBe(`{"of": "${name}"}`);
      }
    }
    const matrices = await tensorsOf(path.join(adapter, 'adapter_model.safetensors'));
    const { modules } = (await client.manifest(id)).lora;
    const updates = new Map(
      modules.flatMap((module): [string, Float64Array][] => {
        const [a, b] = ['A', 'B'].map((side) => {
          return matrices.get(`base_model.model.${pathOf(module, modules)}.lora_${side}.weight`);
        });
        const parameter = became.expertParameters.get(module);
        if (parameter !== undefined) return expertProducts(floats(a!), floats(b!), parameter);
        const { weight, transposed } = became.linears.get(module)!;
        return [[weight, productOf(floats(a!), floats(b!), transposed)]];
      }),
    );
    expect(matrices.size).toBe(2 * modules.length);
    const adapted = modules.filter((module) => became.expertParameters.has(module));
    expect(new Set(adapted.map((module) => module.split('.').at(-1))).size).toBe(PARAMETERS[name]?.length ?? 0);
    for (const [tensor, { file }] of became.tensors) {
      const source = model.tensors.has(tensor) ? tensor : model.linears.get('lm_head')!.weight;
      const before = (await tensorsOf(path.join(model.path, model.tensors.get(source)!.file))).get(source)!;
      const after = (await tensorsOf(path.join(merged, file))).get(tensor)!;
      const update = updates.get(tensor);
      if (update === undefined) expect(after.equals(before), tensor).toBe(true);
      else expect(greatestError(floats(before), update, floats(after)), tensor).toBeLessThan(1e-5);
    }
    // A base model's text is computed in bfloat16, so its log-probabilities are near and not the same.
    const served = { url: `${stack.apiUrl}/v1`, model: `${name}-merged` };
    expect(await probeServer(await client.manifest(id), served)).toMatchObject({ verdict: 'adapter' });
  });
});

describe.each(PAUSED)('%s, paused at a checkpoint and resumed', (name) => {
  test('becomes the same adapter', async () => {
    await gate.holdAt(16);
    const { id } = await client.createJob(request(name));
    await expect.poll(gate.isHeld).toBe(true);
    await client.pauseJob(id);
    await expect.poll(async () => (await client.getJob(id)).status).toBe('paused');
    await gate.release();
    await client.resumeJob(id);
    const job = await client.waitForJob(id);
    expect(job).toMatchObject({ status: 'succeeded', resumes: 1 });
    const digests = [job, trained.get(name)].map(async (one) => {
      const manifest = await client.manifest(one?.adapter ?? '');
      return manifest.files.find(({ name: file }) => file === 'adapter_model.safetensors')?.sha256;
    });
    const [resumed, whole] = await Promise.all(digests);
    expect(resumed).toBe(whole);
  });
});

describe.each(CASES.filter((name) => (PARAMETERS[name]?.length ?? 0) > 1))('%s, matrices of each expert', (name) => {
  test('are imported as the adapter that they are of', async () => {
    const id = trained.get(name)?.adapter ?? '';
    const ofEach = path.join(folder, 'per-expert', name);
    await client.downloadAdapter(id, { folder: ofEach }, { layout: 'per-expert' });
    const files = ['adapter_config.json', 'adapter_model.safetensors'];
    const [config, weights] = await Promise.all(files.map((file) => readFile(path.join(ofEach, file))));
    expect(JSON.parse(config!.toString())).not.toHaveProperty('target_parameters');
    const source = path.join(folder, 'to-import', name);
    await mkdir(source, { recursive: true });
    await writeFile(path.join(source, files[0]!), config!);
    await writeFile(path.join(source, files[1]!), weights!);
    const imported = path.join(folder, 'imported', name);
    const { id: again } = await client.importAdapter({ folder: source }, { base_model: name });
    await client.downloadAdapter(again, { folder: imported });
    const before = await tensorsOf(path.join(folder, 'adapters', name, files[1]!));
    const after = await tensorsOf(path.join(imported, files[1]!));
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    for (const [tensor, numbers] of before) expect(after.get(tensor)!.equals(numbers), tensor).toBe(true);
  });
});

async function tensorsOf(file: string): Promise<Map<string, Buffer>> {
  const opened = await openSafetensors(file);
  try {
    const tensors = new Map<string, Buffer>();
    for (const name of opened.tensors.keys()) tensors.set(name, Buffer.from(await opened.read(name)));
    return tensors;
  } finally {
    await opened.close();
  }
}

const floats = (bytes: Buffer) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);

/** `(alpha / r) B A` in the layout of the weight. */
function productOf(a: Float32Array, b: Float32Array, transposed: boolean): Float64Array {
  const [width, height] = [a.length / R, b.length / R];
  const product = new Float64Array(width * height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      let sum = 0;
      for (let i = 0; i < R; i++) sum += b[row * R + i]! * a[i * width + column]!;
      product[transposed ? column * height + row : row * width + column] = (ALPHA / R) * sum;
    }
  }
  return product;
}

/** PEFT's location of a module's matrices: those of gate_up_proj are within those of down_proj, if both are adapted. */
function pathOf(module: string, modules: readonly string[]): string {
  const [, experts, parameter] = /^(.*\.experts)\.(gate_up_proj|down_proj)$/.exec(module) ?? [];
  if (experts === undefined) return module;
  return parameter === 'gate_up_proj' && modules.includes(`${experts}.down_proj`) ? `${experts}.base_layer` : experts;
}

/**
 * `(alpha / r) B A` of each expert, by the tensors that have its rows.
 * @param a `[experts · r, in]` @param b `[out, r · experts]`, the expert fastest
 */
function expertProducts(
  a: Float32Array,
  b: Float32Array,
  { experts, inFeatures, outFeatures, tensors, transposed = false }: ExpertParameter,
): [string, Float64Array][] {
  const all = new Float64Array(experts * outFeatures * inFeatures);
  for (let expert = 0; expert < experts; expert++) {
    const ofA = a.subarray(expert * R * inFeatures, (expert + 1) * R * inFeatures);
    const ofB = Float32Array.from({ length: outFeatures * R }, (_, i) => b[i * experts + expert]!);
    all.set(productOf(ofA, ofB, transposed), expert * outFeatures * inFeatures);
  }
  let next = 0;
  return tensors.map(({ name, shape }) => {
    const first = next;
    next += shape.reduce((product, size) => product * size, 1);
    return [name, all.subarray(first, next)];
  });
}

const greatestError = (before: Float32Array, update: Float64Array, after: Float32Array) =>
  before.reduce((greatest, value, i) => Math.max(greatest, Math.abs(value + update[i]! - after[i]!)), 0);
