import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  type JobSpec,
  type MachineProfile,
  type NewJobEvent,
  ProductError,
  type TrainingOutcome,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { readModelFolder } from '@lorasmith/model-folder';
import { readPeftFolder } from '@lorasmith/peft-files';
import { type ExampleStore, openExampleStore, planJob, type ValidationRows } from '@lorasmith/planning';
import { chooseKernels, engine, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { aMachine, RATES } from '../../../test/a-machine.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { WHOLE_TRAININGS } from '../../../test/usual-cases.js';
import { aJob, writeRows } from '../test/a-job.js';
import { classifierRows, writeTinyClassifier } from '../test/tiny-classifier.js';
import { trainAlone } from '../test/train-alone.js';
import { BaseModelCache } from './base-model-cache.js';
import { train } from './train.js';
import { PeakMemory } from './trained-outcome.js';

const kernels = chooseKernels(WHOLE_TRAININGS);

interface Base {
  modelFolder: string;
  rowsFile: string;
  dataset: UploadedDataset;
}

let root: string;
let examples: ExampleStore;
let llama: Base;
let classifier: Base;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'train-'));
  examples = await openExampleStore({ dataDir: join(root, 'data'), maxBytes: 2 ** 30 });
  const base = async (name: string, format: UploadedDataset['format'], rows: object[]): Promise<Base> => {
    const modelFolder = join(root, name);
    await mkdir(modelFolder);
    const rowsFile = join(root, `${name}.jsonl`);
    return { modelFolder, rowsFile, dataset: await writeRows(rowsFile, format, rows) };
  };
  // Answers of unlike length: batches have padding, and steps unlike numbers of trained tokens.
  const conversations = Array.from({ length: 14 }, (_, i) => ({
    prompt: `count to ${i % 5}`,
    completion: Array.from({ length: (i % 5) + 1 }, (_, number) => number).join(' '),
  }));
  llama = await base('llama', 'prompt_completion', conversations);
  await writeTinyLlama(llama.modelFolder);
  classifier = await base('classifier', 'features', classifierRows(60));
  await writeTinyClassifier(classifier.modelFolder);
});
afterAll(() => rm(root, { recursive: true }));

interface Attempt {
  outcome: TrainingOutcome;
  events: NewJobEvent[];
  outputFolder: string;
}

interface AttemptOptions {
  checkpointFolder?: string;
  initialAdapterFolder?: string;
  cache?: BaseModelCache;
  machine?: MachineProfile;
  /** Called with each event; may abort. */
  onEvent?: (event: NewJobEvent, controller: AbortController) => void;
  validation?: ValidationRows;
}

async function attempt(base: Base, spec: JobSpec, options: AttemptOptions = {}): Promise<Attempt> {
  const { checkpointFolder, initialAdapterFolder = null, cache, machine = null, onEvent, validation = null } = options;
  const outputFolder = join(root, `output-${++folders}`);
  await mkdir(outputFolder);
  const events: NewJobEvent[] = [];
  const controller = new AbortController();
  const own = {
    ...base,
    spec,
    examples,
    checkpointFolder: checkpointFolder ?? join(root, `checkpoints-${folders}`),
    outputFolder,
    initialAdapterFolder,
    machine,
    validation,
    signal: controller.signal,
    onEvent: (event: NewJobEvent) => {
      events.push(event);
      onEvent?.(event, controller);
    },
  };
  const outcome = cache ? await train({ ...own, cache }) : await trainAlone(kernels, own);
  return { outcome, events, outputFolder };
}

const weightsOf = (folder: string) => readFile(join(folder, 'adapter_model.safetensors'));
const stepsOf = (events: NewJobEvent[]) =>
  events.flatMap((event) => (event.type === 'step-finished' ? [event.data] : []));

describe.each([
  ['a llama', () => llama, aJob({ lora: { dropout: 0.1 }, validation: { split: 0.2 } }), 3],
  ['a classifier', () => classifier, aJob({ lora: { dropout: 0.1 }, validation: { split: 0.2 } }), 12],
] as const)('%s', (_, base, spec, stepsPerEpoch) => {
  let whole: Attempt;
  beforeAll(async () => {
    whole = await attempt(base(), spec);
  });

  test('learns: the loss on held-out rows falls', () => {
    const { result, report } = whole.outcome;
    expect(report.steps).toMatchObject({ per_epoch: stepsPerEpoch, total: 2 * stepsPerEpoch });
    expect(result.steps).toBe(2 * stepsPerEpoch);
    expect(result.losses).toHaveLength(2 * stepsPerEpoch);
    expect(result.last_loss).toBeLessThan(result.first_loss);
    expect(result.evaluation_after!.loss).toBeLessThan(result.evaluation_before!.loss);
    expect(result.tokens).toBe(report.tokens.total);
    expect(result.trained_tokens).toBe(2 * report.tokens.trained_per_epoch);
    expect(result.evaluation_after!.tokens).toBe(report.tokens.validation);
  });

  test('reports what happens, in order', () => {
    const types = whole.events.map(({ type }) => type);
    // Tokenizing reports again after a while.
    expect(types.filter((type, index) => type !== types[index - 1]).slice(0, 4)).toEqual([
      'tokenizing-progressed',
      'report-ready',
      'evaluation-finished',
      'step-finished',
    ]);
    expect(types.slice(-2)).toEqual(['evaluation-finished', 'checkpoint-saved']);
    const steps = stepsOf(whole.events);
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 2 * stepsPerEpoch }, (_, i) => i + 1));
    expect(steps.map(({ loss }) => Math.fround(loss))).toEqual(whole.outcome.result.losses.map(Math.fround));
    expect(steps[0]!.learning_rate).toBe(0);
    expect(steps.every(({ grad_norm: norm, seconds_left: left }) => norm > 0 && left >= 0)).toBe(true);
    expect(steps.at(-1)).toMatchObject({ epoch: 2, total_steps: 2 * stepsPerEpoch, seconds_left: 0 });
  });

  test('writes a PEFT folder of what it trained', async () => {
    const peft = await readPeftFolder(whole.outputFolder);
    expect(peft.dropout).toBe(0.1);
    for (const { rank, scale } of peft.modules.values()) expect({ rank, scale }).toEqual({ rank: 4, scale: 2 });
    expect([...peft.modules.keys()].sort()).toEqual([...whole.outcome.lora.modules].sort());
    const trained = [...peft.modules.values()].reduce((sum, { a, b }) => sum + a.length + b.length, 0);
    expect(trained).toBe(whole.outcome.report.parameters.trained);
    expect([...peft.modules.values()].every(({ b }) => b.some((value) => value !== 0))).toBe(true);
  });

  test('training with the same seed gives the same bytes, with another seed others', async () => {
    const again = await attempt(base(), spec);
    expect(await weightsOf(again.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
    expect(again.outcome.result.losses).toEqual(whole.outcome.result.losses);
    const other = await attempt(base(), { ...spec, training: { ...spec.training, seed: 43 } });
    expect(await weightsOf(other.outputFolder)).not.toEqual(await weightsOf(whole.outputFolder));
  });

  test.each([1, 4])('stopped by a shutdown after step %i, then resumed, it ends the same', async (stopAfter) => {
    const checkpointFolder = join(root, `checkpoints-stopped-${++folders}`);
    const stopped = await attempt(base(), spec, {
      checkpointFolder,
      onEvent: (event, controller) => {
        if (event.type === 'step-finished' && event.data.step === stopAfter) controller.abort('shutdown');
      },
    }).catch((error) => error);
    expect(stopped).toBeInstanceOf(ProductError);
    expect(stopped.code).toBe('cancelled');
    expect(await readdir(checkpointFolder)).toEqual([`step-${String(stopAfter).padStart(10, '0')}.safetensors`]);
    const resumed = await attempt(base(), spec, { checkpointFolder });
    expect(stepsOf(resumed.events)[0]!.step).toBe(stopAfter + 1);
    expect(await weightsOf(resumed.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
    const { result } = resumed.outcome;
    const counted = ['steps', 'tokens', 'trained_tokens', 'evaluation_before', 'evaluation_after'] as const;
    for (const field of counted) expect(result[field], field).toEqual(whole.outcome.result[field]);
    expect(result.losses.map(Math.fround)).toEqual(whole.outcome.result.losses.map(Math.fround));
  });
});

test('killed between two checkpoints it resumes the last one and ends the same', async () => {
  const spec = aJob({ training: { checkpoint_every_steps: 3, epochs: 3 } });
  const whole = await attempt(llama, spec);
  const saved = whole.events.flatMap((event) => (event.type === 'checkpoint-saved' ? [event.data.step] : []));
  expect(saved).toEqual([3, 6, 9, 12]);
  const checkpointFolder = join(root, 'checkpoints-killed');
  const cancelled = attempt(llama, spec, {
    checkpointFolder,
    onEvent: (event, controller) => {
      // Another reason than shutdown: nothing is saved, as when the process dies.
      if (event.type === 'step-finished' && event.data.step === 8) controller.abort('user');
    },
  });
  await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' });
  const resumed = await attempt(llama, spec, { checkpointFolder });
  expect(stepsOf(resumed.events)[0]!.step).toBe(7);
  expect(await weightsOf(resumed.outputFolder)).toEqual(await weightsOf(whole.outputFolder));
});

test('a checkpoint of other settings is not resumed', async () => {
  const checkpointFolder = join(root, 'checkpoints-other-settings');
  const spec = aJob({ training: { checkpoint_every_steps: 2 } });
  await attempt(llama, spec, { checkpointFolder });
  const other = await attempt(llama, aJob({ training: { checkpoint_every_steps: 2, seed: 1 } }), { checkpointFolder });
  expect(stepsOf(other.events)[0]!.step).toBe(1);
});

test('the time left counts what comes between the steps', async () => {
  let passedMs = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => passedMs);
  const spec = aJob({ training: { checkpoint_every_steps: 1 } });
  const { events } = await attempt(llama, spec, {
    onEvent(event) {
      if (event.type === 'checkpoint-saved') passedMs += 300_000;
    },
  }).finally(() => clock.mockRestore());
  // Steps take no time here, and what follows one is known at the next.
  const left = stepsOf(events).map(({ step, total_steps, seconds_left }) => [total_steps - step, seconds_left]);
  expect(left).toEqual(left.map(([steps], index) => [steps, index === 0 ? 0 : steps! * 300]));
});

test('evaluation also between, when the job asks for it', async () => {
  const spec = aJob({ validation: { split: 0.2 }, training: { eval_every_steps: 2 } });
  const { events, outcome } = await attempt(llama, spec);
  const evaluations = events.flatMap((event) => (event.type === 'evaluation-finished' ? [event.data] : []));
  expect(evaluations.map(({ step }) => step)).toEqual([0, 2, 4, 6]);
  for (const { loss, perplexity, accuracy, tokens, trained_tokens: trained } of evaluations) {
    expect(tokens).toBe(outcome.report.tokens.validation);
    expect(trained).toBeGreaterThan(0);
    expect(trained).toBeLessThan(tokens);
    expect(perplexity! / Math.exp(loss)).toBeCloseTo(1, 6);
    expect(accuracy).toBeGreaterThanOrEqual(0);
    expect(accuracy).toBeLessThanOrEqual(1);
  }
  const { step: _, ...last } = evaluations.at(-1)!;
  expect(outcome.result.evaluation_after).toEqual(last);
});

test('reads as many tokens as the report says, also in an epoch that is not complete', async () => {
  for (const training of [{ epochs: 1.5 }, { max_steps: 4, batch_size: 3 }]) {
    const { outcome } = await attempt(llama, aJob({ training }));
    expect(outcome.result.tokens).toBe(outcome.report.tokens.total);
  }
});

test('evaluates on a dataset of its own, which changes nothing of the training but the best state', async () => {
  const rowsFile = join(root, 'held-out.jsonl');
  // Rows of which the training makes the model worse: the best state is an early one.
  const held = Array.from({ length: 5 }, (_, row) => ({ text: `${row * 7919} zebra ${'xyz '.repeat(row + 1)}` }));
  const dataset = { ...(await writeRows(rowsFile, 'text', held)), id: `ds_${'1'.repeat(24)}` };
  const validation = { dataset, rowsFile };
  const spec = (changes: object = {}) =>
    aJob({ validation: { dataset: dataset.id }, training: { eval_every_steps: 1, epochs: 4, ...changes } });
  const whole = await attempt(llama, spec(), { validation });
  const { report, result, ...outcome } = whole.outcome;
  expect(outcome.validation_dataset).toEqual({ id: dataset.id, sha256: dataset.sha256, rows: 5 });
  expect(report).toMatchObject({ rows: { validation: 5 }, validation_dataset: { id: dataset.id, rows: 5 } });
  expect(result.evaluation_before!.tokens).toBe(report.tokens.validation);
  // Every token of a text is trained but its first.
  expect(result.evaluation_before!.trained_tokens).toBe(report.tokens.validation - 5);
  const plain = await attempt(llama, aJob({ training: { epochs: 4 } }));
  expect(await weightsOf(whole.outputFolder)).toEqual(await weightsOf(plain.outputFolder));
  expect(plain.outcome.validation_dataset).toBeNull();

  const best = await attempt(llama, spec({ publish: 'best' }), { validation });
  const evaluations = best.events.flatMap((event) => (event.type === 'evaluation-finished' ? [event.data] : []));
  const after = evaluations.filter(({ step }) => step > 0);
  const lowest = after.reduce((one, other) => (other.loss < one.loss ? other : one));
  expect(best.outcome.result.adapter_step).toBe(lowest.step);
  expect(best.outcome.result.evaluation_after!.loss).toBe(lowest.loss);
});

test('an evaluation whose loss is not finite ends the training, as a step does', async () => {
  const rowsFile = join(root, 'overflowing.jsonl');
  const rows = [{ features: Array(6).fill(3e38), label: 0 }];
  const validation = { dataset: await writeRows(rowsFile, 'features', rows), rowsFile };
  const seen: NewJobEvent['type'][] = [];
  const spec = aJob({ validation: { dataset: validation.dataset.id } });
  const training = attempt(classifier, spec, { validation, onEvent: ({ type }) => seen.push(type) });
  await expect(training).rejects.toMatchObject({
    code: 'non_finite_loss',
    message: expect.stringMatching(/evaluation before training is not a finite number/),
  });
  expect(seen).not.toContain('evaluation-finished');
});

test('with other rows to evaluate on, a checkpoint is one of another training', async () => {
  const checkpointFolder = join(root, `checkpoints-held-${++folders}`);
  const withRows = async (name: string, text: string): Promise<ValidationRows> => {
    const rowsFile = join(root, name);
    return { dataset: { ...(await writeRows(rowsFile, 'text', [{ text }])), id: `ds_${'2'.repeat(24)}` }, rowsFile };
  };
  const spec = aJob({ validation: { dataset: `ds_${'2'.repeat(24)}` }, training: { checkpoint_every_steps: 2 } });
  const first = await withRows('first.jsonl', 'one');
  await attempt(llama, spec, { checkpointFolder, validation: first });
  const again = await attempt(llama, spec, { checkpointFolder, validation: first });
  expect(again.events.map(({ type }) => type)).toContain('checkpoint-loaded');
  const other = await attempt(llama, spec, { checkpointFolder, validation: await withRows('other.jsonl', 'two') });
  expect(stepsOf(other.events)[0]!.step).toBe(1);
  const why = expect.stringContaining('what the rows become');
  expect(other.outcome.report.warnings).toEqual([
    expect.objectContaining({ code: 'training_restarted', message: why }),
  ]);
});

test('a classifier is judged by its accuracy', async () => {
  const spec = aJob({ validation: { split: 0.2 }, training: { epochs: 15 } });
  const { outcome } = await attempt(classifier, spec);
  const { evaluation_before: before, evaluation_after: after } = outcome.result;
  expect(after!.accuracy).toBeGreaterThan(before!.accuracy);
  expect(after!.accuracy).toBeGreaterThan(0.7);
  expect(after!.perplexity).toBeNull();
});

test('a job of a single step trains, though a warm-up starts with the rate 0', async () => {
  const { outcome, events, outputFolder } = await attempt(llama, aJob({ training: { max_steps: 1 } }));
  expect(outcome.report.steps).toMatchObject({ total: 1, warmup: 0 });
  expect(stepsOf(events).map(({ learning_rate: rate }) => rate)).toEqual([1e-2]);
  // B starts as zeros.
  for (const { b } of (await readPeftFolder(outputFolder)).modules.values())
    expect(b.some((value) => value !== 0)).toBe(true);
});

describe('init_from', () => {
  test('starts with the numbers of that adapter', async () => {
    const first = await attempt(llama, aJob());
    // A learning rate that moves nothing in float32.
    const spec = aJob({ training: { learning_rate: 1e-30, weight_decay: 0, max_steps: 1 } });
    const second = await attempt(llama, spec, { initialAdapterFolder: first.outputFolder });
    expect((await readPeftFolder(second.outputFolder)).modules).toEqual(
      (await readPeftFolder(first.outputFolder)).modules,
    );
    const [firstStep] = stepsOf(second.events);
    expect(firstStep!.loss).toBeLessThan(stepsOf(first.events)[0]!.loss);
  });

  test('must adapt the layers the job targets, neither less nor more', async () => {
    const narrow = await attempt(llama, aJob({ lora: { target_modules: ['q_proj'] }, training: { max_steps: 1 } }));
    const options = { initialAdapterFolder: narrow.outputFolder };
    await expect(attempt(llama, aJob(), options)).rejects.toMatchObject({
      code: 'invalid_adapter',
      param: 'lora.init_from',
    });
    const fewer = aJob({ lora: { target_modules: 'model\\.layers\\.0\\.self_attn\\.q_proj' } });
    await expect(attempt(llama, fewer, options)).rejects.toMatchObject({
      code: 'invalid_adapter',
      message: expect.stringContaining('also adapts'),
    });
  });
});

test('a learning rate that breaks the training ends it with non_finite_loss, and no adapter is written', async () => {
  // The decay alone turns each number into -99 times itself in a step: after some twenty steps float32 overflows.
  const spec = aJob({ training: { learning_rate: 10, weight_decay: 10, max_grad_norm: null, epochs: 60 } });
  const outputsBefore = folders;
  const error = await attempt(llama, spec).catch((reason) => reason);
  expect(error).toBeInstanceOf(ProductError);
  expect(error.code).toBe('non_finite_loss');
  expect(await readdir(join(root, `output-${outputsBefore + 1}`))).toEqual([]);
});

test('jobs one after the other share the base model, and leave nothing alive beside it', async () => {
  const cache = new BaseModelCache(kernels);
  const spec = aJob({ lora: { dropout: 0.1 } });
  const first = await attempt(llama, spec, { cache });
  const handles = liveTensorCount();
  const second = await attempt(llama, spec, { cache });
  expect(liveTensorCount()).toBe(handles);
  expect(await weightsOf(second.outputFolder)).toEqual(await weightsOf(first.outputFolder));
  await attempt(classifier, aJob(), { cache });
  cache.dispose();
  expect(liveTensorCount()).toBeLessThan(handles);
});

describe('rope scaled by NTK', () => {
  /** The same model, made for 8 positions and stretched to 16 times as many. */
  const stretched = async (name: string, rope_scaling: object | null): Promise<Base> => {
    const modelFolder = join(root, name);
    await writeTinyLlama(modelFolder);
    const config = JSON.parse(await readFile(join(modelFolder, 'config.json'), 'utf8'));
    const rope = { rope_parameters: undefined, rope_theta: config.rope_parameters.rope_theta, rope_scaling };
    const changed = { ...config, ...rope, max_position_embeddings: rope_scaling === null ? 128 : 8 };
    await writeFile(join(modelFolder, 'config.json'), JSON.stringify(changed));
    return { ...llama, modelFolder };
  };
  const first = async (base: Base) => {
    const { outcome, events } = await attempt(base, aJob({ training: { max_steps: 1 } }));
    const { longest, overflowed } = outcome.report.rows;
    expect(longest).toBeGreaterThan(2 * 8);
    expect(overflowed).toBe(0);
    return stepsOf(events)[0]!.loss;
  };

  test.each(['dynamic', 'yarn'])(
    '%s: a job has rows beyond the original positions, and the scaling its effect',
    async (type) => {
      const scaled = await first(await stretched(`llama-${type}`, { type, factor: 16 }));
      const plain = await first(await stretched('llama-plain', null));
      expect(Math.abs(scaled - plain)).toBeGreaterThan(1e-4);
    },
  );
});

test('the peak of memory is that of the job, not of what the process did before', async (context) => {
  if (engine.kind === 'cuda') return context.skip("the memory of an emulated card is this process's");
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const largeBytes = 2 ** 29;
  const useLarge = () => {
    Buffer.alloc(largeBytes, 1);
    collectGarbage();
  };
  const earlier = PeakMemory.watch();
  const before = earlier.bytes;
  useLarge();
  expect(earlier.bytes).toBeGreaterThan(before + 0.9 * largeBytes);
  const small = before + largeBytes / 2;
  const later = PeakMemory.watch();
  if (later.bytes > small) return context.skip('this kernel does not reset the peak of a process');
  const { outcome } = await attempt(classifier, aJob({ training: { max_steps: 1 } }));
  expect(outcome.result.peak_memory_bytes).toBeGreaterThan(0);
  expect(outcome.result.peak_memory_bytes).toBeLessThan(small);
  // An earlier watch keeps its peak.
  expect(earlier.bytes).toBeGreaterThan(before + 0.9 * largeBytes);
  for (const watch of [earlier, later]) watch.close();
});

test('faults of rows end a job before a weight is read, each with its line', async () => {
  const rowsFile = join(root, 'faulty.jsonl');
  const rows = [{ text: 'a b c' }, { text: 'a '.repeat(600) }, { text: 'b '.repeat(600) }];
  const dataset = await writeRows(rowsFile, 'text', rows);
  const cache = { lease: () => Promise.reject(new Error('the base model was loaded')) } as unknown as BaseModelCache;
  const events: NewJobEvent[] = [];
  const onEvent = (event: NewJobEvent) => void events.push(event);
  const training = attempt({ ...llama, rowsFile, dataset }, aJob({}), { cache, onEvent });
  const error = await training.catch((reason: ProductError) => reason);
  expect(error).toMatchObject({ code: 'row_too_long', details: [{ line: 2 }, { line: 3 }] });
  expect([...new Set(events.map(({ type }) => type))]).toEqual(['tokenizing-progressed']);
  expect([events[0], events.at(-1)]).toMatchObject([0, 3].map((rows) => ({ data: { rows, total_rows: 3 } })));
});

test('auto trains in the precision that a dry run says for the machine', async () => {
  const spec = aJob({ training: { precision: 'auto', max_steps: 1 } });
  const model = await readModelFolder(llama.modelFolder);
  for (const [bfloat16, chosen] of [
    [50, 'float32'],
    [200, 'bfloat16'],
  ] as const) {
    const machine = aMachine({ rates: { float32: RATES, bfloat16: { ...RATES, matmul_gflops: bfloat16 } } });
    const dryRun = await planJob({ spec, model, ...llama, examples, machine });
    await dryRun.close();
    const { outcome } = await attempt(llama, spec, { machine });
    expect(dryRun.report.precision.chosen).toBe(chosen);
    expect(outcome.report.precision).toEqual(dryRun.report.precision);
  }
});
