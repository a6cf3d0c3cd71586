import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JobSpec, NewJobEvent, TrainingOutcome, UploadedDataset } from '@lorasmith/contracts';
import { type ExampleStore, openExampleStore } from '@lorasmith/planning';
import { chooseKernels } from '@lorasmith/tensor';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeTinyLlama } from '../../../../test/tiny-llama.js';
import { aJob, writeRows } from '../../test/a-job.js';
import { BaseModelCache } from '../base-model-cache.js';
import { train } from '../train.js';
import { type FinishedPass, PassScheduler, type PassSchedulerOptions } from './pass-scheduler.js';

const kernels = chooseKernels('fused');

let root: string;
let modelFolder: string;
let examples: ExampleStore;
let rowsFile: string;
let dataset: UploadedDataset;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'shared-training-'));
  examples = await openExampleStore({ dataDir: join(root, 'data'), maxBytes: 2 ** 30 });
  modelFolder = join(root, 'llama');
  await mkdir(modelFolder);
  await writeTinyLlama(modelFolder);
  rowsFile = join(root, 'rows.jsonl');
  const rows = Array.from({ length: 14 }, (_, i) => ({
    prompt: `count to ${i % 5}`,
    completion: Array.from({ length: (i % 5) + 1 }, (_, number) => number).join(' '),
  }));
  dataset = await writeRows(rowsFile, 'prompt_completion', rows);
});
afterAll(async () => {
  await rm(root, { recursive: true });
});

/** The parts that the jobs of a process have in common. */
interface Company {
  cache: BaseModelCache;
  scheduler: PassScheduler;
}

interface Ran {
  /** The error that ended the job instead of its outcome. */
  error: unknown;
  outcome: TrainingOutcome | null;
  events: NewJobEvent[];
  /** The digest of its weights. */
  weights: string | null;
}

interface RunOptions {
  onEvent?: (event: NewJobEvent, controller: AbortController, checkpointFolder: string) => void;
}

const atStep =
  (
    step: number,
    act: (controller: AbortController, checkpointFolder: string) => void,
  ): NonNullable<RunOptions['onEvent']> =>
  ({ type, data }, controller, checkpointFolder) => {
    if (type === 'step-finished' && data.step === step) act(controller, checkpointFolder);
  };

async function run(spec: JobSpec, { cache, scheduler }: Company, options: RunOptions = {}): Promise<Ran> {
  const folder = join(root, `run-${++folders}`);
  const outputFolder = join(folder, 'output');
  const checkpointFolder = join(folder, 'checkpoints');
  await mkdir(outputFolder, { recursive: true });
  const controller = new AbortController();
  const events: NewJobEvent[] = [];
  const onEvent = (event: NewJobEvent) => {
    events.push(event);
    options.onEvent?.(event, controller, checkpointFolder);
  };
  const own = { checkpointFolder, outputFolder, onEvent };
  const common = { modelFolder, dataset, rowsFile, examples, initialAdapterFolder: null, cache, scheduler };
  try {
    const outcome = await train({ spec, ...common, ...own, signal: controller.signal });
    const bytes = await readFile(join(outputFolder, 'adapter_model.safetensors'));
    const weights = createHash('sha256').update(bytes).digest('hex');
    return { error: null, outcome, events, weights };
  } catch (error) {
    return { error, outcome: null, events, weights: null };
  }
}

async function inCompany<Result>(
  work: (company: Company) => Promise<Result>,
  options: PassSchedulerOptions = {},
): Promise<Result> {
  const cache = new BaseModelCache(kernels);
  try {
    return await work({ cache, scheduler: new PassScheduler(options) });
  } finally {
    cache.dispose();
  }
}

/** Jobs that have nothing in common but their base model. */
const SPECS: JobSpec[] = [
  aJob({ lora: { dropout: 0.2 }, validation: { split: 0.2 }, training: { seed: 1, eval_every_steps: 2 } }),
  aJob({
    lora: { r: 2, target_modules: ['q_proj', 'v_proj'] },
    training: { seed: 2, batch_size: 4, gradient_accumulation_steps: 1, epochs: 3 },
  }),
  aJob({
    lora: { r: 8, target_modules: ['o_proj', 'down_proj'], lora_plus_ratio: 4 },
    validation: { split: 0.3 },
    training: { seed: 3, batch_size: 1, gradient_accumulation_steps: 3, weight_decay: 0.1, recompute: 'always' },
  }),
];

/** All that a training makes: every number of its adapter, and what its events say of it, without times. */
function madeBy({ outcome, events, weights }: Ran) {
  const steps = events.flatMap((event) => {
    if (event.type !== 'step-finished') return [];
    const { step, loss, grad_norm } = event.data;
    return [{ step, loss, grad_norm }];
  });
  const evaluations = events.flatMap((event) => (event.type === 'evaluation-finished' ? [event.data] : []));
  return { steps, evaluations, tokens: outcome?.result.tokens, probe: outcome?.probe, weights };
}

test('whatever happens to others, a job reports and makes what it does alone, to the last bit', async ({ skip }) => {
  const alone: Ran[] = [];
  for (const spec of SPECS) alone.push(await inCompany((company) => run(spec, company)));
  for (const { error } of alone) expect(error).toBeNull();

  const ends = aJob({ training: { epochs: 20, seed: 9 } });
  const saves = { ...ends, training: { ...ends.training, checkpoint_every_steps: 2 } };
  const diverges = { ...ends, training: { ...ends.training, learning_rate: 1e30, lr_scheduler: 'constant' as const } };
  const passes: FinishedPass[] = [];
  const [cancelled, unsaved, diverged, ...together] = await inCompany(
    (company) =>
      Promise.all([
        run(ends, company, { onEvent: atStep(3, (controller) => controller.abort('cancel')) }),
        run(saves, company, {
          onEvent: atStep(1, (_, checkpointFolder) => {
            // A checkpoint cannot be renamed to the name of a folder.
            mkdirSync(join(checkpointFolder, 'step-0000000002.safetensors', 'in the way'), { recursive: true });
          }),
        }),
        run(diverges, company),
        ...SPECS.map((spec) => run(spec, company)),
      ]),
    { onPass: (pass) => passes.push(pass) },
  );
  expect(cancelled.error).toMatchObject({ code: 'cancelled' });
  expect(unsaved.error).toMatchObject({ message: expect.stringMatching(/step-0000000002/) });
  expect(diverged.error).toMatchObject({ code: 'non_finite_loss' });
  for (const { error } of together) expect(error).toBeNull();
  expect(Math.max(...passes.map(({ jobs }) => jobs))).toBeGreaterThan(1);
  if (!kernels.rowsAreIndependent('float32'))
    skip('The products of this processor in float32 depend on the number of rows.');
  expect(together.map(madeBy)).toEqual(alone.map(madeBy));
});

test('variants of a sweep share their passes, and read the same rows in the same order', async () => {
  const rates = [1e-3, 1e-2];
  const specs = [2, 8].flatMap((r) =>
    rates.map((learning_rate) =>
      aJob({ lora: { r }, validation: { split: 0.2 }, training: { learning_rate, epochs: 10 } }),
    ),
  );
  const passes: FinishedPass[] = [];
  const ran = await inCompany((company) => Promise.all(specs.map((spec) => run(spec, company))), {
    onPass: (pass) => passes.push(pass),
  });
  for (const { error } of ran) expect(error).toBeNull();
  // An adapter changes nothing before its first update, and the first step of a warm-up has rate 0.
  const losses = ran.map(({ outcome }) => outcome!.result.losses);
  for (const step of [0, 1]) for (const own of losses) expect(own[step]).toBeCloseTo(losses[0]![step]!, 5);
  expect(new Set(ran.map(({ outcome }) => outcome!.result.tokens)).size).toBe(1);
  expect(Math.max(...passes.map(({ jobs }) => jobs))).toBe(specs.length);
});
