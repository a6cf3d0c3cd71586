import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type JobSpec, type ObjectiveRequest, objectiveOf } from '@lorasmith/contracts';
import { chooseKernels, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HAS_ALL_CASES } from '../../../../../test/usual-cases.js';
import { aJob } from '../../../test/a-job.js';
import {
  type Ran,
  type RunOptions,
  type StoredRows,
  stepsOf,
  TinyTrainings,
  weightsOf,
} from '../../../test/tiny-trainings.js';
import { BaseModelCache } from '../../base-model-cache.js';
import { type FinishedPass, PassScheduler } from '../../shared-pass/pass-scheduler.js';

const kernels = chooseKernels('fused');

let trainings: TinyTrainings;
let pairs: StoredRows;
let texts: StoredRows;
let answers: StoredRows;
beforeAll(async () => {
  trainings = await TinyTrainings.create(kernels);
  const numbers = (count: number) => Array.from({ length: count }, (_, number) => number).join(' ');
  pairs = await trainings.store(
    'a',
    'preference',
    Array.from({ length: 14 }, (_, i) => ({
      prompt: `count to ${i % 5}`,
      chosen: numbers((i % 5) + 1),
      rejected: `no, ${i} is too far`,
    })),
  );
  texts = await trainings.store(
    'b',
    'prompt_completion',
    Array.from({ length: 14 }, (_, i) => ({ prompt: `count to ${i % 5}`, completion: numbers((i % 5) + 1) })),
  );
  answers = await trainings.store(
    'c',
    'labelled_completion',
    Array.from({ length: 14 }, (_, i) => ({
      prompt: `count to ${i % 5}`,
      completion: i % 2 === 0 ? numbers((i % 5) + 1) : `no, ${i} is too far`,
      label: i % 2 === 0,
    })),
  );
});
afterAll(async () => {
  await trainings.remove();
});

function preferring(objective: Omit<ObjectiveRequest, 'kind'> = {}, changes: Parameters<typeof aJob>[0] = {}): JobSpec {
  return { ...aJob(changes), objective: objectiveOf({ kind: 'preference', ...objective }) };
}

type OnRows = RunOptions & { base?: StoredRows };
const run = (spec: JobSpec, { base = pairs, ...options }: OnRows = {}) => trainings.run(spec, base, options);
const readByReference = ({ events }: Ran) =>
  events.flatMap((event) => (event.type === 'reference-progressed' ? [event.data] : []));

describe('a job of preferences', () => {
  const spec = preferring({ beta: 0.2 }, { validation: { split: 0.2 }, training: { epochs: 4 } });
  let whole: Ran;
  beforeAll(async () => {
    whole = await run(spec);
  });

  test('makes chosen answers more likely than rejected ones, also of rows that it has not seen', () => {
    expect(whole.error).toBeNull();
    const { evaluation_before: before, evaluation_after: after, ...result } = whole.outcome!.result;
    expect(before).toMatchObject({ accuracy: 0, perplexity: null, preference: { 'rewards/margins': 0 } });
    expect(before!.loss).toBeCloseTo(Math.LN2, 6);
    expect(after).toMatchObject({ accuracy: 1 });
    expect(after!.preference!['rewards/margins']).toBeGreaterThan(0.5);
    expect(after!.preference!['rewards/chosen']).toBeGreaterThan(after!.preference!['rewards/rejected']!);
    expect(result.last_loss).toBeLessThan(result.first_loss);
    expect(result.trained_tokens).toBe(4 * whole.outcome!.report.tokens.trained_per_epoch);
    expect(result.tokens).toBe(whole.outcome!.report.tokens.total);
  });

  test('reports its pairs, and what the reference thinks of them once it has read them', () => {
    const types = whole.events.map(({ type }) => type);
    const [first, second] = whole.events.flatMap((event) => (event.type === 'report-ready' ? [event.data.report] : []));
    expect(first!.preference).toEqual({ pairs: 11, reference_accuracy: null });
    const share = second!.preference!.reference_accuracy!;
    expect(share * 11).toBeCloseTo(Math.round(share * 11), 9);
    expect(whole.outcome!.report).toEqual(second);
    expect(second!.rendered!.first_row.at(-1)).toMatchObject({ trained: true });
    expect(second!.rendered!.rejected!.at(-1)).toMatchObject({ trained: true });
    expect(readByReference(whole).at(-1)).toEqual({ pairs: 14, total_pairs: 14 });
    expect(types.lastIndexOf('reference-progressed')).toBeLessThan(types.indexOf('evaluation-finished'));
    const [step] = stepsOf(whole);
    expect(step!.preference).toMatchObject({ 'rewards/chosen': 0, 'rewards/rejected': 0, 'rewards/accuracies': 0 });
    expect(step!.preference!['logps/chosen']).toBeLessThan(0);
  });

  test('has the same losses in micro-batches of other sizes', async () => {
    const other = await run(
      preferring(
        { beta: 0.2 },
        { validation: { split: 0.2 }, training: { epochs: 4, batch_size: 4, gradient_accumulation_steps: 1 } },
      ),
    );
    const losses = ({ outcome }: Ran) => outcome!.result.losses;
    for (const [step, loss] of losses(other).entries()) expect(loss).toBeCloseTo(losses(whole)[step]!, 5);
  });

  test('resumes with the reference that it has kept, to the same bytes', async () => {
    const stopped = await run(spec, {
      onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 5 && stop('pause'),
    });
    expect(stopped.error).toMatchObject({ code: 'cancelled' });
    const { checkpointFolder } = stopped;
    const resumed = await run(spec, { checkpointFolder });
    expect(resumed.events.map(({ type }) => type)).toContain('checkpoint-loaded');
    expect(readByReference(resumed)).toEqual([]);
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
    expect(resumed.outcome!.report.preference).toEqual(whole.outcome!.report.preference);
  });

  test('computes the reference again where its file is lost or damaged', async () => {
    const stopped = await run(spec, {
      onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 5 && stop('pause'),
    });
    const { checkpointFolder } = stopped;
    const file = join(checkpointFolder, 'reference.safetensors');
    const bytes = await readFile(file);
    bytes[bytes.length - 3]! ^= 1;
    await writeFile(file, bytes);
    const resumed = await run(spec, { checkpointFolder });
    expect(readByReference(resumed).at(-1)).toEqual({ pairs: 14, total_pairs: 14 });
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
  });

  test('goes on with the reference where it was stopped', async () => {
    const stopped = await run(spec, {
      onEvent: ({ type }, stop) => type === 'reference-progressed' && stop('pause'),
    });
    expect(stopped.error).toMatchObject({ code: 'cancelled' });
    expect(stepsOf(stopped)).toEqual([]);
    const { checkpointFolder } = stopped;
    const resumed = await run(spec, { checkpointFolder });
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
    const again = await run(spec, { checkpointFolder });
    expect(readByReference(again)).toEqual([]);
  });

  test('leaves no tensor behind', async () => {
    const before = liveTensorCount();
    await run(spec);
    expect(liveTensorCount()).toBe(before);
  });
});

test('a job that continues an adapter has that adapter as its reference', async () => {
  const first = await run(preferring());
  const spec = preferring({ loss: 'ipo' }, { validation: { split: 0.2 } });
  const options = { initialAdapterFolder: first.outputFolder };
  const second = await run(spec, options);
  expect(second.error).toBeNull();
  const { evaluation_before: before } = second.outcome!.result;
  expect(before!.preference).toMatchObject({ 'rewards/chosen': 0, 'rewards/rejected': 0 });
  // Not that of the base.
  const logps = stepsOf(second)[0]!.preference!['logps/chosen'];
  expect(logps).not.toBeCloseTo(stepsOf(first)[0]!.preference!['logps/chosen']!, 1);
  const stopped = await run(spec, {
    ...options,
    onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 3 && stop('pause'),
  });
  // The adapter of the checkpoint is another one by now.
  await rm(join(stopped.checkpointFolder, 'reference.safetensors'));
  const resumed = await run(spec, { ...options, checkpointFolder: stopped.checkpointFolder });
  expect(await weightsOf(resumed)).toEqual(await weightsOf(second));
});

test.runIf(HAS_ALL_CASES)(
  'jobs with unlike losses share passes, and have the same bytes as alone',
  async ({ skip }) => {
    const specs: [JobSpec, OnRows][] = [
      [preferring({ loss: 'sigmoid', sft_weight: 0.3 }, { training: { seed: 1 } }), {}],
      [preferring({ loss: 'orpo' }, { training: { seed: 2 } }), {}],
      [preferring({ loss: 'simpo' }, { training: { seed: 3 }, lora: { target_modules: ['q_proj', 'lm_head'] } }), {}],
      [preferring({ loss: 'kto', beta: 0.5 }, { training: { seed: 5 } }), { base: answers }],
      [preferring({ loss: 'apo_zero_unpaired' }, { training: { seed: 6 } }), { base: answers }],
      [aJob({ training: { seed: 4 } }), { base: texts }],
    ];
    const alone: string[] = [];
    for (const [spec, options] of specs) alone.push(await weightsOf(await run(spec, options)));
    const passes: FinishedPass[] = [];
    const scheduler = new PassScheduler({ onPass: (pass) => passes.push(pass) });
    const cache = new BaseModelCache(kernels);
    const together = await Promise.all(specs.map(([spec, options]) => run(spec, { ...options, cache, scheduler })));
    cache.dispose();
    expect(Math.max(...passes.map(({ jobs }) => jobs))).toBeGreaterThan(1);
    if (!kernels.rowsAreIndependent('float32'))
      skip('The products of this processor in float32 depend on the number of rows.');
    expect(await Promise.all(together.map(weightsOf))).toEqual(alone);
  },
);

describe('a job on answers with a label', () => {
  const spec = preferring(
    { loss: 'kto', beta: 0.5 },
    { validation: { split: 0.2 }, training: { epochs: 4, batch_size: 2, gradient_accumulation_steps: 2 } },
  );
  const options = () => ({ base: answers });
  let whole: Ran;
  beforeAll(async () => {
    whole = await run(spec, options());
  });

  test('makes wanted answers more likely than unwanted ones, also of rows that it has not seen', () => {
    expect(whole.error).toBeNull();
    const { evaluation_before: before, evaluation_after: after } = whole.outcome!.result;
    expect(before!.perplexity).toBeNull();
    expect(before!.preference!.kl).toBeCloseTo(0, 4);
    expect(before!.loss).toBeCloseTo(0.5, 6);
    expect(after!.loss).toBeLessThan(before!.loss);
    expect(after!.preference!['rewards/margins']).toBeGreaterThan(0.3);
    expect(stepsOf(whole).every(({ preference }) => preference!.kl! >= 0)).toBe(true);
    expect(stepsOf(whole).some(({ preference }) => preference!.kl! > 0)).toBe(true);
  });

  test('reports its labels, and how far the reference is', () => {
    const { report } = whole.outcome!;
    const { desirable, undesirable } = report.labels!;
    expect(desirable + undesirable).toBe(11);
    expect(report.preference).toBeUndefined();
    expect(report.rendered).toMatchObject({ label: true });
    expect(readByReference(whole).at(-1)).toEqual({ pairs: 14, total_pairs: 14 });
  });

  test('continues as if it had never stopped, with the reference that is kept', async () => {
    const stopped = await run(spec, {
      ...options(),
      onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 5 && stop('pause'),
    });
    expect(stopped.error).toMatchObject({ code: 'cancelled' });
    const { checkpointFolder } = stopped;
    const resumed = await run(spec, { ...options(), checkpointFolder });
    expect(readByReference(resumed)).toEqual([]);
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
  });

  test('is the same job in micro-batches of another size', async () => {
    const changed = structuredClone(spec);
    Object.assign(changed.training, { batch_size: 4, gradient_accumulation_steps: 1 });
    const steps = stepsOf(await run(changed, options()));
    expect(steps).toHaveLength(stepsOf(whole).length);
    for (const [index, { loss, preference }] of stepsOf(whole).entries()) {
      expect(steps[index]!.loss).toBeCloseTo(loss, 5);
      expect(steps[index]!.preference!.kl).toBeCloseTo(preference!.kl!, 4);
    }
  });

  test('has the adapter that it continues as its reference', async () => {
    const second = await run(spec, { ...options(), initialAdapterFolder: whole.outputFolder });
    expect(second.error).toBeNull();
    for (const { preference } of [second.outcome!.result.evaluation_before!, stepsOf(second)[0]!]) {
      expect(preference!.kl).toBeCloseTo(0, 4);
      expect(preference!['rewards/margins'] ?? 0).toBeCloseTo(0, 4);
    }
  });

  test('leaves no tensor behind', async () => {
    const before = liveTensorCount();
    await run(spec, options());
    expect(liveTensorCount()).toBe(before);
  });
});

test('losses without a reference need none', async () => {
  const ran = await run(
    preferring({ loss: 'orpo', beta: 0.5 }, { validation: { split: 0.2 }, training: { epochs: 4 } }),
  );
  expect(ran.error).toBeNull();
  expect(readByReference(ran)).toEqual([]);
  const { result, report } = ran.outcome!;
  expect(report.preference).toEqual({ pairs: 11, reference_accuracy: null });
  expect(result.evaluation_after!.loss).toBeLessThan(result.evaluation_before!.loss);
  expect(result.evaluation_after!.preference!.log_odds_chosen).toBeGreaterThan(
    result.evaluation_before!.preference!.log_odds_chosen!,
  );
});

test('early stopping and the best state work as ever', async () => {
  const spec = preferring(
    {},
    {
      validation: { split: 0.2 },
      training: { epochs: 20, eval_every_steps: 2, early_stopping: { patience: 1, min_delta: 0.2 } },
    },
  );
  const { outcome, error } = await run(spec);
  expect(error).toBeNull();
  expect(outcome!.result.stopped_early).toBe(true);
  expect(outcome!.result.adapter_step).toBeGreaterThan(0);
});
