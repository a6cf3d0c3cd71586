import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listCheckpoints } from '@lorasmith/artifacts';
import {
  type JobSpec,
  type NewJobEvent,
  ProductError,
  RungReached,
  type SampleSettings,
  type TrainingOutcome,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { type ExampleStore, openExampleStore } from '@lorasmith/planning';
import { chooseKernels } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { aMachine, RATES } from '../../../test/a-machine.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { usualCases, WHOLE_TRAININGS } from '../../../test/usual-cases.js';
import { aJob, writeRows } from '../test/a-job.js';
import { BaseModelCache } from './base-model-cache.js';
import { publishCheckpoint } from './publish-checkpoint.js';
import { train } from './train.js';

const kernels = chooseKernels(WHOLE_TRAININGS);

let root: string;
let modelFolder: string;
let rowsFile: string;
let dataset: UploadedDataset;
let examples: ExampleStore;
let folders = 0;
const cache = new BaseModelCache(kernels);

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'resume-'));
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
  cache.dispose();
  await rm(root, { recursive: true });
});

interface Attempt {
  /** Null when it was stopped. */
  outcome: TrainingOutcome | null;
  events: NewJobEvent[];
  outputFolder: string;
  /** The state in which it was paused. */
  atRung?: RungReached;
}

interface AttemptOptions {
  checkpointFolder: string;
  initialAdapterFolder?: string | null;
  /** @defaultValue the one of all tests */
  model?: string;
  /** Stopped with this reason at its so manieth event that is a step or an evaluation. */
  stop?: { reason: string; at: number } | undefined;
  pause?: AbortSignal;
  pauseAtStep?: number;
}

async function attempt(spec: JobSpec, options: AttemptOptions): Promise<Attempt> {
  const { checkpointFolder, initialAdapterFolder = null, model = modelFolder, stop, pause, pauseAtStep } = options;
  const outputFolder = join(root, `output-${++folders}`);
  await mkdir(outputFolder);
  const events: NewJobEvent[] = [];
  const controller = new AbortController();
  let happened = 0;
  const onEvent = (event: NewJobEvent) => {
    events.push(event);
    if (event.type !== 'step-finished' && event.type !== 'evaluation-finished') return;
    if (++happened === stop?.at) controller.abort(stop.reason);
  };
  const common = { spec, modelFolder: model, dataset, rowsFile, examples, checkpointFolder, outputFolder, cache };
  try {
    const paused = { ...(pause === undefined ? {} : { pause }), ...(pauseAtStep === undefined ? {} : { pauseAtStep }) };
    const outcome = await train({ ...common, ...paused, initialAdapterFolder, signal: controller.signal, onEvent });
    return { outcome, events, outputFolder };
  } catch (error) {
    if (error instanceof RungReached) return { outcome: null, events, outputFolder, atRung: error };
    if (!(error instanceof ProductError && error.code === 'cancelled' && (stop ?? pause) !== undefined)) throw error;
    return { outcome: null, events, outputFolder };
  }
}

const digestOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
/** The digest of all numbers of an adapter: it says the same for the same ones, and for no others. */
const weightsOf = async (folder: string) => digestOf(await readFile(join(folder, 'adapter_model.safetensors')));
const newFolder = () => join(root, `checkpoints-${++folders}`);
const stepsOf = (events: NewJobEvent[]) =>
  events.flatMap((one) => (one.type === 'step-finished' ? [one.data.step] : []));

/** The content of events that does not depend on interruptions: the last event of each step. */
function storyOf(events: NewJobEvent[]): unknown[] {
  const reported = new Map<string, unknown>();
  for (const { type, data } of events) {
    if (type === 'step-finished') {
      const { step, epoch, loss, learning_rate, grad_norm } = data;
      reported.set(`step ${step}`, { step, epoch, loss, learning_rate, grad_norm });
    }
    if (type === 'evaluation-finished') reported.set(`evaluation ${data.step}`, data);
    if (type === 'samples-generated') reported.set(`samples ${data.step}`, data);
    if (type === 'training-stopped-early') reported.set(type, data);
  }
  return [...reported].sort(([one], [other]) => (one < other ? -1 : 1));
}

const EVERY_OTHER = { split: 0.2 };
const PROMPTS: SampleSettings['prompts'] = ['count to 3', [{ role: 'user', content: 'count to 4' }]];
const STOPPED_EARLY = aJob({
  samples: { prompts: PROMPTS, max_tokens: 3 },
  validation: EVERY_OTHER,
  training: {
    epochs: 20,
    learning_rate: 0.5,
    lr_scheduler: 'constant',
    warmup_ratio: 0,
    eval_every_steps: 1,
    early_stopping: { patience: 3, min_delta: 0 },
    checkpoint_every_steps: 4,
  },
});

const SPECS: [string, JobSpec][] = [
  [
    'dropout, accumulation, LoRA+, weight decay, a cosine, evaluations, samples',
    aJob({
      samples: { prompts: PROMPTS, held_out_rows: 3, every_steps: 2, max_tokens: 5, temperature: 0.8 },
      lora: { dropout: 0.2, lora_plus_ratio: 4 },
      validation: EVERY_OTHER,
      training: { epochs: 3, eval_every_steps: 2, checkpoint_every_steps: 3, weight_decay: 0.1, warmup_ratio: 0.3 },
    }),
  ],
  [
    'a base quantized to NF4, in bfloat16',
    aJob({
      samples: { prompts: PROMPTS, every_steps: 2, max_tokens: 5 },
      lora: { dropout: 0.2 },
      validation: EVERY_OTHER,
      training: {
        ...{ epochs: 3, eval_every_steps: 2, checkpoint_every_steps: 3 },
        ...{ base_quantization: 'nf4', precision: 'bfloat16' },
      },
    }),
  ],
  ['the best state published, after early stopping, samples', STOPPED_EARLY],
  [
    'moments in 8 bits',
    aJob({
      samples: { prompts: PROMPTS, every_steps: 2, max_tokens: 5 },
      training: { epochs: 3, optimizer: 'adamw_8bit', checkpoint_every_steps: 3 },
    }),
  ],
];

describe.each(usualCases(SPECS, 1))('%s', (_, spec) => {
  let whole: Attempt;
  beforeAll(async () => {
    whole = await attempt(spec, { checkpointFolder: newFolder() });
  });

  // Within evaluations and within steps. `killed`: as when the process dies, nothing is saved, so each attempt must reach
  // the next checkpoint: four steps and four evaluations.
  test.each([
    ['shutdown', 1],
    ['cancel', 3],
    ['killed', 9],
  ])('stopped again and again (%s, after %i events), it ends the same', async (reason, at) => {
    const checkpointFolder = newFolder();
    const events: NewJobEvent[] = [];
    let done: Attempt | undefined;
    for (let round = 0; done === undefined && round < 60; round++) {
      // The first time it must get beyond the evaluation before training.
      const stop = { reason, at: round === 0 ? at + 1 : at };
      const last = await attempt(spec, { checkpointFolder, stop });
      const [first] = stepsOf(last.events);
      const saved = events.flatMap((one) => (one.type === 'checkpoint-saved' ? [one.data.step] : []));
      if (first !== undefined) expect(first).toBe((saved.at(-1) ?? 0) + 1);
      events.push(...last.events);
      if (last.outcome !== null) done = last;
    }
    expect(await weightsOf(done!.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
    expect(storyOf(events)).toEqual(storyOf(whole.events));
    const { result } = done!.outcome!;
    const same = ['steps', 'tokens', 'trained_tokens', 'evaluation_before', 'evaluation_after', 'samples'] as const;
    for (const field of same) expect(result[field], field).toEqual(whole.outcome!.result[field]);
    expect(result.adapter_step).toBe(whole.outcome!.result.adapter_step);
    expect(result.stopped_early).toBe(whole.outcome!.result.stopped_early);
  });

  test('samples before training, on the way and at the end, also of the published state, change nothing of it', async () => {
    const { result } = whole.outcome!;
    const everySteps = spec.samples!.every_steps ?? Number.POSITIVE_INFINITY;
    const steps = Array.from({ length: result.steps + 1 }, (_, step) => step);
    const due = steps.filter(
      (step) => step % everySteps === 0 || step === result.steps || step === result.adapter_step,
    );
    expect(result.samples.map(({ step }) => step)).toEqual(due);
    const generated = whole.events.flatMap((one) => (one.type === 'samples-generated' ? [one.data] : []));
    expect(generated.toSorted((one, other) => one.step - other.step)).toEqual(result.samples);
    for (const { samples } of result.samples) expect(samples.map(({ prompt }) => prompt)).toEqual([0, 1]);
    // The model learns something.
    expect(result.samples.at(-1)!.samples).not.toEqual(result.samples[0]!.samples);
    const unasked = await attempt({ ...spec, samples: null }, { checkpointFolder: newFolder() });
    expect(await weightsOf(unasked.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
    expect(unasked.outcome!.result.samples).toEqual([]);
  });
});

test('paused it stops after a step and never within an evaluation, and keeps its evaluations', async () => {
  const [[, spec]] = SPECS as [(typeof SPECS)[0]];
  const whole = await attempt(spec, { checkpointFolder: newFolder() });
  const checkpointFolder = newFolder();
  const events: NewJobEvent[] = [];
  const pause = AbortSignal.abort();
  let done: Attempt | null = null;
  // Each is paused at once, and yet brings the training further.
  for (let round = 1; done?.outcome == null; round++) {
    done = await attempt(spec, { checkpointFolder, pause });
    expect(stepsOf(done.events)).toEqual(done.outcome === null ? [round] : []);
    events.push(...done.events);
  }
  const evaluated = (all: NewJobEvent[]) =>
    all.flatMap((one) => (one.type === 'evaluation-finished' ? [one.data.step] : []));
  expect(evaluated(events)).toEqual(evaluated(whole.events));
  const sampled = (all: NewJobEvent[]) => all.flatMap((one) => (one.type === 'samples-generated' ? [one.data] : []));
  expect(sampled(events)).toEqual(sampled(whole.events));
  expect(storyOf(events)).toEqual(storyOf(whole.events));
  expect(await weightsOf(done.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
});

test('early stopping ends at the evaluation that the losses ask for, and publishes the best state', async () => {
  const spec = STOPPED_EARLY;
  const checkpointFolder = newFolder();
  const { outcome, events, outputFolder } = await attempt(spec, { checkpointFolder });
  const losses = events.flatMap((one) =>
    one.type === 'evaluation-finished' && one.data.step > 0 ? [one.data.loss] : [],
  );
  const best = losses.indexOf(Math.min(...losses)) + 1;
  expect(losses).toHaveLength(best + 3);
  const { result, report } = outcome!;
  expect(result).toMatchObject({ steps: best + 3, adapter_step: best, stopped_early: true });
  expect(result.evaluation_after!.loss).toBe(losses[best - 1]);
  expect(report.publish).toBe('best');
  const [early] = events.filter(({ type }) => type === 'training-stopped-early');
  expect(early?.data).toEqual({ step: best + 3, best_step: best, best_loss: losses[best - 1] });
  // Trained to that step and no further, the same adapter comes out.
  const only = {
    ...spec,
    training: { ...spec.training, max_steps: best, early_stopping: null, publish: 'last' as const },
  };
  const short = await attempt(only, { checkpointFolder: newFolder() });
  expect(await weightsOf(outputFolder)).toEqual(await weightsOf(short.outputFolder));
  expect((await listCheckpoints(checkpointFolder)).map(({ step }) => step)).toEqual([best + 3, best]);
});

test('a training that early stopping would end after its last planned step has not stopped early', async () => {
  const spec = STOPPED_EARLY;
  const stopped = await attempt(spec, { checkpointFolder: newFolder() });
  const { steps } = stopped.outcome!.result;
  const planned = { ...spec, training: { ...spec.training, max_steps: steps } };
  const { outcome, events } = await attempt(planned, { checkpointFolder: newFolder() });
  expect(outcome!.result).toMatchObject({ steps, stopped_early: false });
  expect(outcome!.result.adapter_step).toBe(stopped.outcome!.result.adapter_step);
  expect(events.map(({ type }) => type)).not.toContain('training-stopped-early');
});

test('the last state is published where the job asks for it, though an earlier one was better', async () => {
  const spec = STOPPED_EARLY;
  const last = { ...spec, training: { ...spec.training, publish: 'last' as const } };
  const { outcome } = await attempt(last, { checkpointFolder: newFolder() });
  expect(outcome!.result.adapter_step).toBe(outcome!.result.steps);
  expect(outcome!.report.publish).toBe('last');
});

test('a run from init_from is resumed, not restarted', async () => {
  const first = await attempt(aJob(), { checkpointFolder: newFolder() });
  const options = { initialAdapterFolder: first.outputFolder };
  const spec = aJob({ lora: { dropout: 0.1 }, training: { checkpoint_every_steps: 2 } });
  const whole = await attempt(spec, { ...options, checkpointFolder: newFolder() });
  const checkpointFolder = newFolder();
  await attempt(spec, { ...options, checkpointFolder, stop: { reason: 'killed', at: 5 } });
  const resumed = await attempt(spec, { ...options, checkpointFolder });
  expect(stepsOf(resumed.events)[0]).toBe(5);
  expect(await weightsOf(resumed.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
});

test('a resumed run keeps its precision, whatever is measured by then', async () => {
  const spec = aJob({ training: { precision: 'auto' } });
  const checkpointFolder = newFolder();
  const first = await attempt(spec, { checkpointFolder, stop: { reason: 'shutdown', at: 2 } });
  const [before] = first.events.flatMap((one) => (one.type === 'report-ready' ? [one.data.report.precision] : []));
  // Another worker's machine, on which the other type is faster.
  const rate = { attention_gflops: 1, weight_gbytes: 1, pass_gbytes: 1, layer_overhead_ms: 1 };
  const other = before!.chosen === 'float32' ? 'bfloat16' : 'float32';
  const rates = {
    float32: { ...rate, matmul_gflops: other === 'float32' ? 2 : 1 },
    bfloat16: { ...rate, matmul_gflops: other === 'bfloat16' ? 2 : 1 },
  };
  const machine = aMachine({ worker: 'other', processor: 'another', memory_bytes: 2 ** 40, rates });
  const outputFolder = join(root, `output-${++folders}`);
  await mkdir(outputFolder);
  const options = {
    spec,
    modelFolder,
    dataset,
    rowsFile,
    examples,
    outputFolder,
    cache,
    machine,
    initialAdapterFolder: null,
  };
  const signal = new AbortController().signal;
  const events: NewJobEvent[] = [];
  const resumed = await train({ ...options, checkpointFolder, signal, onEvent: (event) => events.push(event) });
  expect(stepsOf(events)[0]).toBe(3);
  expect(resumed.report.precision.chosen).toBe(before!.chosen);
  const afresh = await train({ ...options, checkpointFolder: newFolder(), signal, onEvent: () => {} });
  expect(afresh.report.precision.chosen).toBe(other);
});

test('what was trained in bfloat16 restarts on a GPU that has none', async () => {
  const spec = aJob({ training: { precision: 'bfloat16' } });
  const checkpointFolder = newFolder();
  await attempt(spec, { checkpointFolder, stop: { reason: 'shutdown', at: 2 } });
  const machine = aMachine({
    ...{ worker: 'older', processor: 'a card', memory_bytes: 2 ** 40 },
    rates: { float32: RATES, bfloat16: null },
    engine: { kind: 'tensorflow', card: null, self_test: null },
  });
  const outputFolder = join(root, `output-${++folders}`);
  await mkdir(outputFolder);
  const events: NewJobEvent[] = [];
  const { report } = await train({
    ...{ spec, modelFolder, dataset, rowsFile, examples, outputFolder, cache, machine, checkpointFolder },
    initialAdapterFolder: null,
    signal: new AbortController().signal,
    onEvent: (event) => events.push(event),
  });
  expect(stepsOf(events)[0]).toBe(1);
  expect(report.precision).toMatchObject({ chosen: 'float32', reason: expect.stringContaining('no bfloat16') });
  expect(warningsOf(events)).toMatchObject([
    { code: 'training_restarted', message: expect.stringContaining('the precision changed') },
  ]);
});

/** Turns a bit of the file's last tensor. */
async function damage(checkpointFolder: string, step: number): Promise<void> {
  const file = join(checkpointFolder, `step-${String(step).padStart(10, '0')}.safetensors`);
  const bytes = await readFile(file);
  bytes[bytes.length - 5]! ^= 4;
  await writeFile(file, bytes);
}

async function changeConfig(model: string, change: object): Promise<void> {
  const file = join(model, 'config.json');
  await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, 'utf8')), ...change }));
}

const warningsOf = (events: NewJobEvent[]) =>
  events.flatMap((one) => (one.type === 'report-ready' ? one.data.report.warnings : []));

describe('a training whose checkpoints no longer fit restarts, and says why:', () => {
  test.each([
    [
      'another chat template',
      'tokenizer, chat template',
      async (model: string) => {
        const file = join(model, 'chat_template.jinja');
        await writeFile(file, `Be brief.{{ bos_token }}${await readFile(file, 'utf8')}`);
      },
    ],
    ['another epsilon', 'config.json', (model: string) => changeConfig(model, { rms_norm_eps: 0.1 })],
    [
      'other rotary positions',
      'config.json',
      (model: string) => changeConfig(model, { rope_parameters: { rope_theta: 100, rope_type: 'default' } }),
    ],
  ])('%s', async (_, words, change) => {
    const spec = aJob({ training: { checkpoint_every_steps: 2 } });
    const model = join(root, `changed-${++folders}`);
    await mkdir(model);
    await writeTinyLlama(model);
    const checkpointFolder = newFolder();
    await attempt(spec, { model, checkpointFolder, stop: { reason: 'cancel', at: 3 } });
    await change(model);
    const resumed = await attempt(spec, { model, checkpointFolder });
    expect(stepsOf(resumed.events)[0]).toBe(1);
    expect(warningsOf(resumed.events)).toEqual([
      { code: 'training_restarted', message: expect.stringContaining(words) },
    ]);
    expect(warningsOf(resumed.events)[0]!.message).toContain('step 3');
    const whole = await attempt(spec, { model, checkpointFolder: newFolder() });
    expect(await weightsOf(resumed.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
    expect(warningsOf(whole.events)).toEqual([]);
  });
});

test('if the newest checkpoint is damaged the one before is resumed; if all are, training restarts', async () => {
  const spec = aJob({ training: { checkpoint_every_steps: 1 } });
  const whole = await attempt(spec, { checkpointFolder: newFolder() });
  const checkpointFolder = newFolder();
  await attempt(spec, { checkpointFolder, stop: { reason: 'cancel', at: 4 } });
  await damage(checkpointFolder, 4);
  const resumed = await attempt(spec, { checkpointFolder, stop: { reason: 'killed', at: 1 } });
  expect(resumed.events).toContainEqual({ type: 'checkpoint-loaded', data: { step: 3 } });
  for (const { step } of await listCheckpoints(checkpointFolder)) await damage(checkpointFolder, step);
  const restarted = await attempt(spec, { checkpointFolder });
  expect(warningsOf(restarted.events)).toMatchObject([
    { code: 'training_restarted', message: expect.stringContaining('it is damaged') },
  ]);
  expect(await weightsOf(restarted.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
});

test('an incomplete file of a killed writer is removed when the run is resumed', async () => {
  const checkpointFolder = newFolder();
  await mkdir(checkpointFolder);
  await writeFile(join(checkpointFolder, 'step-0000000004.safetensors.0123456789ab.tmp'), 'half');
  await attempt(aJob({ training: { max_steps: 1 } }), { checkpointFolder });
  expect(await readdir(checkpointFolder)).toEqual(['step-0000000001.safetensors']);
});

describe('a checkpoint', () => {
  const spec = aJob({ validation: EVERY_OTHER, training: { eval_every_steps: 2, checkpoint_every_steps: 2 } });
  const publish = async (checkpointFolder: string, step: number, changes: { modelFolder?: string } = {}) => {
    const outputFolder = join(root, `output-${++folders}`);
    await mkdir(outputFolder);
    const signal = new AbortController().signal;
    const options = {
      spec,
      modelFolder,
      checkpointFolder,
      step,
      outputFolder,
      signal,
      cache,
      onEvent: () => {},
      ...changes,
    };
    return { outcome: await publishCheckpoint(options), outputFolder };
  };

  test('is published without the data; the last one as the adapter of its run', async () => {
    const checkpointFolder = newFolder();
    await attempt(spec, { checkpointFolder, stop: { reason: 'cancel', at: 6 } });
    const { step } = (await listCheckpoints(checkpointFolder))[0]!;
    const { outcome, outputFolder } = await publish(checkpointFolder, step);
    expect(outcome.result).toMatchObject({ steps: step, adapter_step: step });
    expect(outcome.dataset).toEqual({ id: dataset.id, sha256: dataset.sha256, rows: dataset.rows });
    expect(outcome.checks.read_back_difference).toBe(0);
    // As the resumed run itself would have published it.
    const ended = await attempt(spec, { checkpointFolder });
    const last = await publish(checkpointFolder, ended.outcome!.result.steps);
    expect(await weightsOf(last.outputFolder)).toEqual(await weightsOf(ended.outputFolder));
    expect(await weightsOf(outputFolder)).not.toEqual(await weightsOf(ended.outputFolder));
  });

  test('a checkpoint that is missing, or of other weights or another architecture of the base, is refused', async () => {
    const checkpointFolder = newFolder();
    const { outcome } = await attempt(spec, { checkpointFolder });
    await expect(publish(checkpointFolder, 10_000)).rejects.toMatchObject({ code: 'checkpoint_not_found' });
    const otherModel = join(root, `other-${++folders}`);
    await mkdir(otherModel);
    await writeTinyLlama(otherModel);
    const weights = join(otherModel, 'model.safetensors');
    const bytes = await readFile(weights);
    bytes[bytes.length - 3]! ^= 1;
    await writeFile(weights, bytes);
    const refused = publish(checkpointFolder, outcome!.result.steps, { modelFolder: otherModel });
    await expect(refused).rejects.toMatchObject({ code: 'invalid_job', param: 'base_model' });
    const otherConfig = join(root, `other-${++folders}`);
    await mkdir(otherConfig);
    await writeTinyLlama(otherConfig);
    await changeConfig(otherConfig, { rope_parameters: { rope_theta: 100, rope_type: 'default' } });
    await expect(publish(checkpointFolder, outcome!.result.steps, { modelFolder: otherConfig })).rejects.toMatchObject({
      code: 'invalid_job',
      message: expect.stringContaining('config.json'),
    });
  });

  test('a checkpoint that is damaged is refused', async () => {
    const checkpointFolder = newFolder();
    const { outcome } = await attempt(spec, { checkpointFolder });
    const { steps } = outcome!.result;
    await damage(checkpointFolder, steps);
    const message = expect.stringContaining(`step ${steps} is damaged`);
    await expect(publish(checkpointFolder, steps)).rejects.toMatchObject({ code: 'checkpoint_not_found', message });
  });
});

test('a training that pauses at steps is evaluated and saved there, and ends with the numbers of one that is not', async () => {
  const spec = aJob({ lora: { dropout: 0.2 }, validation: { split: 0.3 }, training: { epochs: 3 } });
  const whole = await attempt(spec, { checkpointFolder: newFolder() });
  const checkpointFolder = newFolder();
  const first = await attempt(spec, { checkpointFolder, pauseAtStep: 2 });
  expect(first.atRung).toMatchObject({ step: 2, evaluation: { loss: expect.any(Number) } });
  const evaluated = first.events.flatMap((one) => (one.type === 'evaluation-finished' ? [one.data] : []));
  expect(evaluated.map(({ step }) => step)).toEqual([0, 2]);
  expect(first.atRung!.evaluation!.loss).toBe(evaluated[1]!.loss);
  expect((await listCheckpoints(checkpointFolder))[0]?.step).toBe(2);
  // Its worker died before it could record that: the next one comes to the same, without a step.
  const again = await attempt(spec, { checkpointFolder, pauseAtStep: 2 });
  expect(stepsOf(again.events)).toEqual([]);
  expect(again.atRung!.evaluation).toEqual(first.atRung!.evaluation);
  const second = await attempt(spec, { checkpointFolder, pauseAtStep: 4 });
  expect(stepsOf(second.events)).toEqual([3, 4]);
  expect(second.atRung?.step).toBe(4);
  // A step beyond the end holds nothing.
  const last = await attempt(spec, { checkpointFolder, pauseAtStep: 1_000 });
  expect(await weightsOf(last.outputFolder)).toBe(await weightsOf(whole.outputFolder));
  expect(last.outcome!.result.evaluation_after).toEqual(whole.outcome!.result.evaluation_after);
});
