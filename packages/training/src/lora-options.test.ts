import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AdapterManifest, JobSpec, LoraSettings, NewJobEvent, UploadedDataset } from '@lorasmith/contracts';
import { digestBase, readModelFolder, WeightDigests } from '@lorasmith/model-folder';
import { manifestLora, type PeftAdapter, readPeftFolder, writePeftFolder } from '@lorasmith/peft-files';
import { type ExampleStore, inheritLora, openExampleStore, planJob, type Target } from '@lorasmith/planning';
import { chooseKernels } from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { aJob, writeRows } from '../test/a-job.js';
import { trainAlone } from '../test/train-alone.js';
import { type ReferenceSteps, readJson } from './check-reference/reference-case.js';
import { readInitialAdapter } from './plan-run.js';

const kernels = chooseKernels('raw');

// The cases were made by PEFT from the settings in their adapter_config.json: test/fixtures/lora-options/make.py.
const fixture = (name: string) =>
  fileURLToPath(new URL(`../../../test/fixtures/lora-options/${name}`, import.meta.url));

let root: string;
let examples: ExampleStore;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'lora-options-'));
  examples = await openExampleStore({ dataDir: join(root, 'data'), maxBytes: 2 ** 30 });
});
afterEach(() => rm(root, { recursive: true }));

/** PEFT's settings as ours. */
async function loraOf(folder: string): Promise<Partial<LoraSettings>> {
  const config = await readJson<Record<string, unknown>>(join(folder, 'adapter_init'), 'adapter_config.json');
  const names = [
    'r',
    'target_modules',
    'exclude_modules',
    'layers_to_transform',
    'rank_pattern',
    'alpha_pattern',
    'use_rslora',
  ];
  return { ...Object.fromEntries(names.map((name) => [name, config[name]])), alpha: config.lora_alpha as number };
}

/** A job that does what the case did: every step takes every row. */
async function jobOf(folder: string): Promise<{ spec: JobSpec; steps: ReferenceSteps }> {
  const steps = await readJson<ReferenceSteps>(folder, 'case.json');
  const { lr, weight_decay, max_grad_norm, lora_plus_ratio = null } = steps.optimizer;
  const spec = aJob({
    lora: { ...(await loraOf(folder)), dropout: 0, lora_plus_ratio },
    training: {
      epochs: steps.optimizer.steps,
      batch_size: 2,
      gradient_accumulation_steps: 2,
      learning_rate: lr,
      lr_scheduler: 'constant',
      warmup_ratio: 0,
      weight_decay,
      max_grad_norm,
      precision: 'float32',
    },
  });
  return { spec, steps };
}

async function rowsOf(folder: string): Promise<{ dataset: UploadedDataset; rowsFile: string }> {
  const rowsFile = join(root, 'rows.jsonl');
  const texts = await readJson<string[]>(folder, 'texts.json');
  const dataset = await writeRows(
    rowsFile,
    'text',
    texts.map((text) => ({ text })),
  );
  return { dataset, rowsFile };
}

async function targetsOf(folder: string, spec: JobSpec): Promise<Target[]> {
  const model = await readModelFolder(join(folder, 'base'));
  const plan = await planJob({ spec, model, examples, ...(await rowsOf(folder)) });
  await plan.close();
  return plan.targets;
}

function flat(adapter: PeftAdapter, targets: readonly Target[]): Float32Array {
  return Float32Array.from(
    targets.flatMap(({ name }) => {
      const { a, b } = adapter.modules.get(name)!;
      return [...a, ...b];
    }),
  );
}

interface Begun {
  spec: JobSpec;
  initialAdapterFolder: string;
}

async function asItIs(folder: string, spec: JobSpec): Promise<Begun> {
  return { spec, initialAdapterFolder: join(folder, 'adapter_init') };
}

/** The adapter as `POST /adapters` publishes it, and a job that leaves to it all that it decides. */
async function published(folder: string, spec: JobSpec): Promise<Begun> {
  const initialAdapterFolder = join(root, 'published');
  await mkdir(initialAdapterFolder);
  const adapter = await readPeftFolder(join(folder, 'adapter_init'));
  const model = await readModelFolder(join(folder, 'base'));
  const written = await writePeftFolder(initialAdapterFolder, adapter, model);
  const manifest: AdapterManifest = {
    version: 1,
    id: `ad_${'0'.repeat(24)}`,
    object: 'adapter',
    owner: null,
    name: null,
    created_at: '2026-01-01T00:00:00Z',
    origin: { kind: 'imported' },
    base_model: {
      name: model.name,
      family: 'llama',
      ...(await digestBase(model, new WeightDigests(null))),
      quantization: null,
    },
    lora: manifestLora(adapter, written),
    versions: {},
    files: [],
  };
  await writeFile(join(initialAdapterFolder, 'manifest.json'), JSON.stringify(manifest));
  const { dropout, lora_plus_ratio } = spec.lora;
  const names = { layers: model.modules.map(({ name }) => name), parameters: [] };
  const lora = inheritLora({ dropout, lora_plus_ratio, init_from: manifest.id }, manifest, names);
  return { spec: { ...aJob({ lora, training: spec.training }), base_model: model.name }, initialAdapterFolder };
}

describe.each(['patterns', 'lora-plus'])('%s', (name) => {
  const folder = fixture(name);

  test('adapts the layers that PEFT does, with its ranks and scales', async () => {
    const { spec } = await jobOf(folder);
    const targets = await targetsOf(folder, spec);
    const theirs = (await readPeftFolder(join(folder, 'adapter_init'))).modules;
    const ours = new Map(targets.map(({ name: module, rank, scale }) => [module, { rank, scale }]));
    expect(ours).toEqual(new Map([...theirs].map(([module, { rank, scale }]) => [module, { rank, scale }])));
  });

  test.each([
    ['a PEFT folder', asItIs],
    ['what the registry makes of it', published],
  ])("trains on from PEFT's adapter step by step as PEFT does, begun from %s", async (_, begin) => {
    const job = await jobOf(folder);
    const { steps } = job;
    const { spec, initialAdapterFolder } = await begin(folder, job.spec);
    const targets = await targetsOf(folder, spec);
    const outputFolder = join(root, 'output');
    await mkdir(outputFolder);
    const events: NewJobEvent[] = [];
    const outcome = await trainAlone(kernels, {
      spec,
      modelFolder: join(folder, 'base'),
      examples,
      ...(await rowsOf(folder)),
      checkpointFolder: join(root, 'checkpoints'),
      outputFolder,
      initialAdapterFolder,
      signal: new AbortController().signal,
      onEvent: (event) => events.push(event),
    });
    const finished = events.flatMap((event) => (event.type === 'step-finished' ? [event.data] : []));
    const losses = finished.map(({ loss }) => loss);
    expect(greatestDifference(losses, steps.losses.slice(0, -1))).toBeLessThan(1e-4);
    const norms = finished.map(({ grad_norm }) => grad_norm);
    expect(greatestDifference(norms, steps.grad_norms)).toBeLessThan(1e-4);

    const trained = await readInitialAdapter(outputFolder, targets);
    const expected = await readPeftFolder(join(folder, 'adapter_trained'));
    expect(greatestDifference(flat(trained, targets), flat(expected, targets))).toBeLessThan(1e-5);

    // The files have one rank and one scale, which is all that other servers read.
    const config = JSON.parse(await readFile(join(outputFolder, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ rank_pattern: {}, alpha_pattern: {}, r: outcome.lora.r });
    for (const { rank, scale } of (await readPeftFolder(outputFolder)).modules.values()) {
      expect({ rank, scale }).toEqual({ rank: config.r, scale: config.lora_alpha / config.r });
    }
    const { trained: trainedNumbers } = outcome.report.parameters;
    const numbers = [...expected.modules.values()].reduce((sum, { a, b }) => sum + a.length + b.length, 0);
    expect(trainedNumbers).toBe(numbers);
  });
});

test('an adapter of other weights is not trained on, also where their digest becomes known only as they are loaded', async () => {
  const folder = fixture('patterns');
  const { spec, initialAdapterFolder } = await published(folder, (await jobOf(folder)).spec);
  const file = join(initialAdapterFolder, 'manifest.json');
  const manifest = JSON.parse(await readFile(file, 'utf8'));
  manifest.base_model.weights_sha256 = 'f'.repeat(64);
  await writeFile(file, JSON.stringify(manifest));
  const training = trainAlone(kernels, {
    spec,
    modelFolder: join(folder, 'base'),
    examples,
    ...(await rowsOf(folder)),
    checkpointFolder: join(root, 'checkpoints'),
    outputFolder: root,
    initialAdapterFolder,
    signal: new AbortController().signal,
    onEvent: () => {},
  });
  const message = expect.stringContaining(`was made for other weights of ${manifest.base_model.name}`);
  await expect(training).rejects.toMatchObject({ code: 'invalid_adapter', param: 'lora.init_from', message });
});
