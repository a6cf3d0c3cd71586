import { fileURLToPath } from 'node:url';
import {
  JobSpec,
  type KernelSource,
  type MachineProfile,
  type ObjectiveRequest,
  objectiveOf,
  type PreferenceLoss,
  ProductError,
} from '@lorasmith/contracts';
import {
  type DecoderArchitecture,
  LOGITS_PER_CHUNK,
  layerLinears,
  readModelFolder,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { aMachine, RATES } from '../../../../test/a-machine.js';
import { chooseTargets } from '../choose-targets.js';
import type { PromptExamples } from '../objectives/group-relative/prompt-rows.js';
import type { LabelledExamples } from '../objectives/labelled/labelled.js';
import type { TokenExamples } from '../objectives/next-token/token-examples.js';
import type { PairExamples } from '../objectives/preference/pair-rows.js';
import { logitsPerChunk } from './engine-memory.js';
import { estimateJob, type JobToEstimate, leastMemory, memoryNeeds } from './estimate-job.js';
import { decoderMemory, jointMemory, passBytes } from './estimate-memory.js';
import { stepWork, weightGigabytes } from './estimate-time.js';
import { refuseWhatDoesNotFit, settingsForLessMemory } from './settings-for-less-memory.js';
import { weightTraffic } from './weight-memory.js';

const MACHINE = aMachine({
  worker: 'gpu-1',
  rates: { float32: RATES, bfloat16: { ...RATES, matmul_gflops: 200 } },
});

function examples(rows: number, length: number): TokenExamples {
  const tokens = rows * length;
  return {
    kind: 'next-token',
    count: rows,
    tokens,
    trainedTokens: tokens,
    longest: length,
    lengthOf: () => length,
    labelsOf: () => length,
    lineOf: (row) => row + 1,
    sequence: () => ({ ids: new Int32Array(length), trained: new Uint8Array(length).fill(1) }),
  };
}

let model: JobToEstimate['model'];
beforeAll(async () => {
  model = await readModelFolder(
    fileURLToPath(new URL('../../../../test/fixtures/reference/llama-tied/base', import.meta.url)),
  );
});

/** @param training settings of the job that differ from the defaults */
function job(
  rows: JobToEstimate['training'],
  training: Partial<JobSpec['training']> = {},
  machine = MACHINE,
): JobToEstimate {
  const request = { base_model: 'tiny', dataset: `ds_${'0'.repeat(24)}`, validation: {}, lora: {}, training };
  const spec = Value.Default(JobSpec, request) as JobSpec;
  const layers = chooseTargets(model, spec.lora);
  const targets = layers.map((layer) => ({ ...layer, rank: spec.lora.r, scale: 2 }));
  const steps = { perEpoch: Math.ceil(rows.count / spec.training.batch_size), total: 10, warmup: 0 };
  return { spec, model, targets, training: rows, validation: null, steps, prompts: [], machine };
}

/** The job on a model with more layers. */
function withLayers(planned: JobToEstimate, layerCount: number): JobToEstimate {
  const own = planned.model.architecture as DecoderArchitecture;
  const architecture = { ...own, ...ofLayers(own, layerCount) };
  return { ...planned, model: { ...planned.model, architecture } };
}

const peakOf = (planned: JobToEstimate) => estimateJob(planned)!.peak_memory_bytes;
const secondsOf = (planned: JobToEstimate) => estimateJob(planned)!.seconds_per_step;

test('an evaluation that is due after the last step is counted once', () => {
  const rows = examples(64, 16);
  const evaluated = (every: number | null) => {
    const planned = job(rows, { eval_every_steps: every });
    return estimateJob({ ...planned, validation: examples(8, 16) })!.total_seconds;
  };
  const withoutAny = estimateJob(job(rows))!.total_seconds;
  const beforeAndAfter = evaluated(null) - withoutAny;
  // Of 10 steps: after the 10th; after the 5th and the 10th; after the 4th, the 8th and the 10th.
  expect(evaluated(10) - withoutAny).toBeCloseTo(beforeAndAfter, 9);
  expect(evaluated(5) - withoutAny).toBeCloseTo(1.5 * beforeAndAfter, 9);
  expect(evaluated(4) - withoutAny).toBeCloseTo(2 * beforeAndAfter, 9);
});

describe('objectives of preferences', () => {
  const judged = (rows: JobToEstimate['training'], loss: PreferenceLoss) => {
    const planned = job(rows);
    return estimateJob({
      ...planned,
      spec: { ...planned.spec, objective: objectiveOf({ kind: 'preference', loss }) },
    })!;
  };
  /** Both sequences of a pair have `length` tokens together, of which so many are of the answers. */
  const pairs = (rows: number, length: number, answers: number): PairExamples => {
    const none = { ids: new Int32Array(0), trained: new Uint8Array(0) };
    const side = { ...examples(rows, length), trainedTokens: rows * answers, labelsOf: () => answers };
    return { ...side, kind: 'preference', pair: () => ({ chosen: none, rejected: none }) };
  };
  const answers = (rows: number, length: number): LabelledExamples => {
    const { sequence, ...side } = examples(rows, length);
    return { ...side, kind: 'labelled', label: () => true, answer: () => ({ sequence: sequence(0), label: true }) };
  };

  test('the reference reads the rows to train on as an evaluation does, also where nothing is held out', () => {
    const planned = job(pairs(64, 100, 40), { batch_size: 1, recompute: 'always' });
    const peak = (loss: PreferenceLoss, more: Partial<JobToEstimate> = {}) =>
      peakOf({ ...planned, ...more, spec: { ...planned.spec, objective: objectiveOf({ kind: 'preference', loss }) } });
    const rows = { validation: planned.training };
    expect(peak('simpo')).toBeLessThan(peak('simpo', rows));
    expect(peak('sigmoid')).toBe(peak('sigmoid', rows));
    // The fewer pairs that are held out do not hide them.
    expect(peak('sigmoid', { validation: pairs(1, 100, 40) })).toBe(peak('sigmoid', rows));
  });

  test('the likelihood of orpo has the tokens of prompts as labels, too', () => {
    // 100 tokens less those of the answers are the prompt, twice.
    expect(judged(pairs(64, 100, 40), 'orpo').total_seconds).toBeGreaterThan(
      judged(pairs(64, 100, 70), 'cpo').total_seconds,
    );
  });

  test('the prompt of a pair is computed once, but where its likelihood is learned', () => {
    // Less the last token of the prompt: each answer has its own.
    const shared = judged(pairs(64, 100, 40), 'cpo');
    const [less, more] = [judged(pairs(64, 71, 40), 'orpo'), judged(pairs(64, 100, 40), 'orpo')];
    expect(shared.seconds_per_step).toBeLessThan(more.seconds_per_step);
    expect(shared.peak_memory_bytes).toBeLessThan(more.peak_memory_bytes);
    expect(shared.peak_memory_bytes).toBeGreaterThan(less.peak_memory_bytes);
  });

  test('a step of kto begins with a forward pass of answers to other prompts, which the reference reads, too', () => {
    const [kto, apo] = [judged(answers(64, 200), 'kto'), judged(answers(64, 200), 'apo_zero_unpaired')];
    const secondsOutsideSteps = ({ total_seconds: total, seconds_per_step: step }: typeof kto) => total - 10 * step;
    const readOnce = secondsOutsideSteps(kto) - secondsOutsideSteps(apo);
    expect(readOnce).toBeGreaterThan(0);
    // The 64 rows are read in 8 steps.
    expect(8 * (kto.seconds_per_step - apo.seconds_per_step)).toBeCloseTo(readOnce, 9);
  });
});

describe('sampled answers', () => {
  const grouped = (settings: Omit<ObjectiveRequest, 'kind' | 'grader'> = {}, batchSize = 1, isEvaluated = false) => {
    const { sequence, ...side } = examples(64, 16);
    const prompts: PromptExamples = {
      ...side,
      kind: 'group-relative',
      labelsOf: () => 0,
      prompt: (index) => sequence(index).ids,
    };
    const planned = { ...job(prompts, { batch_size: batchSize }), validation: isEvaluated ? prompts : null };
    const grader = { type: 'regex' as const, pattern: 'a' };
    const objective = objectiveOf({ kind: 'group-relative', grader, max_completion_tokens: 48, ...settings });
    return estimateJob({ ...planned, spec: { ...planned.spec, objective } })!;
  };

  test('take longer than rows of their length, and more time and memory the more and the longer they are', () => {
    const rows = estimateJob(job(examples(512, 64), { batch_size: 8 }))!;
    const groups = grouped();
    expect(groups.seconds_per_step).toBeGreaterThan(rows.seconds_per_step);
    for (const more of [grouped({ group_size: 16 }), grouped({ max_completion_tokens: 96 })]) {
      expect(more.peak_memory_bytes).toBeGreaterThan(groups.peak_memory_bytes);
      expect(more.seconds_per_step).toBeGreaterThan(groups.seconds_per_step);
    }
  });

  test('that several steps train on are sampled once for all', () => {
    const [one, two, four] = [1, 2, 4].map((updates) => grouped({ updates_per_batch: updates }).seconds_per_step);
    expect(one! - four!).toBeGreaterThan(0);
    expect((one! - four!) / (one! - two!)).toBeCloseTo(1.5, 9);
  });

  test('of an evaluation are sampled to as many prompts at once as those of a step', () => {
    const evaluations = (batchSize: number) =>
      grouped({}, batchSize, true).total_seconds - grouped({}, batchSize).total_seconds;
    // The layers are called 8 times as often, for the same tokens.
    expect(evaluations(1)).toBeGreaterThan(2 * evaluations(8));
  });

  test('are read by the reference in each step, where there is one', () => {
    const more = (updates: number) =>
      grouped({ updates_per_batch: updates, kl_weight: 0.1 }).seconds_per_step -
      grouped({ updates_per_batch: updates }).seconds_per_step;
    expect(more(1)).toBeGreaterThan(0);
    expect(more(4)).toBeCloseTo(more(1), 9);
  });
});

test('the first pass takes a while more, whether a job has one step or many', () => {
  const rows = examples(64, 16);
  const beyondSteps = (total: number) => {
    const planned = job(rows);
    const { total_seconds: seconds, seconds_per_step: step } = estimateJob({
      ...planned,
      steps: { ...planned.steps, total },
    })!;
    return seconds - total * step;
  };
  expect(beyondSteps(1)).toBeGreaterThan(0);
  expect(beyondSteps(1_000)).toBeCloseTo(beyondSteps(1), 9);
});

test('each micro-batch reads the weights for its forward and its backward pass', () => {
  const rows = examples(64, 16);
  const at = (batch_size: number, gradient_accumulation_steps: number) =>
    secondsOf(job(rows, { batch_size, gradient_accumulation_steps, precision: 'float32' }));
  const { weight_gbytes: rate, layer_overhead_ms: overhead } = MACHINE.rates.float32;
  const { layerCount } = model.architecture as DecoderArchitecture;
  const { ofLayers, ofHead } = weightTraffic(model, 'float32');
  const perMicroBatch = (2 * (ofLayers + ofHead)) / 1e9 / rate + (layerCount * overhead) / 1e3;
  expect(at(1, 8) - at(8, 1)).toBeCloseTo(7 * perMicroBatch, 9);
});

test('the head is read again for each chunk of logits, forward and backward', () => {
  const { ofLayers, ofHead } = weightTraffic(model, 'float32');
  const architecture = { ...(model.architecture as DecoderArchitecture), vocabSize: 1000 };
  const work = { architecture, modules: model.modules, targets: targetsOf(model), recomputedLayers: 0 };
  const load = { tokensPerStep: 64, labelsPerStep: 40, squaresPerStep: 1024, microBatchesPerStep: 2 };
  const read = (logitsInChunk: number, onlyForward = false) =>
    1e9 * weightGigabytes({ ...work, onlyForward, weights: { ofLayers, ofHead }, logitsInChunk }, load);
  // Two micro-batches, of 20 labels each.
  expect(read(20_000)).toBeCloseTo(2 * 2 * (ofLayers + ofHead), 6);
  expect(read(5_000)).toBeCloseTo(2 * 2 * ofLayers + 2 * 8 * ofHead, 6);
  expect(read(5_000, true)).toBeCloseTo(2 * ofLayers + 8 * ofHead, 6);
});

test('weights in 4 bits are read as if they were in the type of the computation, and decoded in as much time', () => {
  const wide = wideModel();
  const dense = weightTraffic(wide, 'bfloat16');
  const packed = weightTraffic(withBaseQuantization(wide, 'nf4'), 'bfloat16');
  expect(packed.ofLayers).toBe(2 * dense.ofLayers);
  expect(packed.ofHead).toBe(dense.ofHead);
});

test('on the CUDA engine, an adapter at weights in 4 bits passes as few numbers as at others', () => {
  // Only passes take time.
  const fast = { matmul_gflops: 1e12, attention_gflops: 1e12, weight_gbytes: 1e12, layer_overhead_ms: 0 };
  const rates = { ...MACHINE.rates.float32, ...fast };
  const engine = { kind: 'cuda' as const, card: null, self_test: null };
  const machine = { ...MACHINE, kernels: 'cuda' as const, engine, rates: { float32: rates, bfloat16: rates } };
  const planned = job(examples(64, 16), { recompute: 'never' }, machine);
  const seconds = ({ model: own, spec }: JobToEstimate, dropout: number) =>
    secondsOf({ ...withModel(planned, own), spec: { ...spec, lora: { ...spec.lora, dropout } } });
  const dense = withModel(planned, wideModel());
  const packed = { ...dense, model: withBaseQuantization(dense.model, 'nf4') };
  expect(seconds(packed, 0)).toBeCloseTo(seconds(dense, 0), 9);
  expect(seconds(packed, 0.1)).toBeCloseTo(seconds(dense, 0.1), 9);
  expect(seconds(packed, 0)).toBeLessThan(0.99 * seconds(packed, 0.1));
});

test('a job on the output head alone takes a forward pass of the layers', () => {
  const rows = examples(64, 16);
  const planned = job(rows, { batch_size: 8, precision: 'float32' });
  const ofHead = { ...planned, targets: [{ ...model.headModule!, rank: 8, scale: 2 }] };
  // Only calls of ops take time: half of them.
  const fast = { matmul_gflops: 1e12, attention_gflops: 1e12, weight_gbytes: 1e12, pass_gbytes: 1e12 };
  const rates = { ...MACHINE.rates.float32, ...fast };
  const machine = { ...MACHINE, rates: { float32: rates, bfloat16: rates } };
  expect(secondsOf({ ...ofHead, machine })).toBeCloseTo(secondsOf({ ...planned, machine }) / 2, 9);
  const recomputed = job(rows, { batch_size: 8, precision: 'float32', recompute: 'always' });
  expect(secondsOf({ ...recomputed, targets: ofHead.targets })).toBeCloseTo(secondsOf(ofHead), 9);
});

describe('what is beside the steps of a job', () => {
  /** A machine that takes no time for anything but calling the ops of a layer: a millisecond, half of it forward. */
  const calls = { ...RATES, matmul_gflops: 1e12, attention_gflops: 1e12, weight_gbytes: 1e12, pass_gbytes: 1e12 };
  const machine = { ...MACHINE, rates: { float32: calls, bfloat16: calls } };
  const forwardMs = () => (model.architecture as DecoderArchitecture).layerCount / 2;
  const beside = (planned: JobToEstimate, bare: JobToEstimate) =>
    1e3 * (estimateJob(planned)!.total_seconds - estimateJob(bare)!.total_seconds);

  test('an evaluation is a forward pass of each of its micro-batches, whatever the accumulation and the recomputed layers', () => {
    const settings = { batch_size: 4, gradient_accumulation_steps: 2, recompute: 'always' } as const;
    const bare = job(examples(64, 16), settings, machine);
    // 18 rows: four micro-batches of 4 and one of 2, before and after.
    expect(beside({ ...bare, validation: examples(18, 300) }, bare)).toBeCloseTo(2 * 5 * forwardMs(), 6);
    // Short ones fill a pass: 18 and 2.
    expect(beside({ ...bare, validation: examples(20, 55) }, bare)).toBeCloseTo(2 * 2 * forwardMs(), 6);
    const wide = { ...bare, machine: { ...machine, pass_tokens: 1100 } };
    expect(beside({ ...wide, validation: examples(20, 55) }, wide)).toBeCloseTo(2 * forwardMs(), 6);
  });

  test('an evaluation has the attention of its own rows', () => {
    const attending = { ...calls, attention_gflops: 1e-3, layer_overhead_ms: 0 };
    const bare = job(examples(64, 16), {}, { ...machine, rates: { float32: attending, bfloat16: attending } });
    const of = (rows: number, length: number) => beside({ ...bare, validation: examples(rows, length) }, bare);
    expect(of(8, 64) / of(32, 16)).toBeCloseTo(4, 3);
  });

  const withSamples = (bare: JobToEstimate, prompts: number[], every_steps: number | null = null): JobToEstimate => {
    const samples = { prompts: ['a'], held_out_rows: 0, every_steps, max_tokens: 32, temperature: 0, top_p: 1 };
    return { ...bare, spec: { ...bare.spec, samples }, prompts: prompts.map((length) => new Int32Array(length)) };
  };

  test('a round of samples is a pass for each piece of the prompts, and one for each further token of all answers', () => {
    // Rows of 100 tokens with a loss: answers are as long as they may be.
    const bare = job(examples(64, 100), {}, machine);
    // 512 tokens are a piece where they take no time. The pass over the end of a prompt gives the first token.
    expect(beside(withSamples(bare, [10, 20]), bare)).toBeCloseTo(2 * (1 + 31) * forwardMs(), 6);
    expect(beside(withSamples(bare, [600]), bare)).toBeCloseTo(2 * (2 + 31) * forwardMs(), 6);
    // 10 steps: after 3, 6 and 9, too.
    expect(beside(withSamples(bare, [10], 3), bare)).toBeCloseTo(5 * (1 + 31) * forwardMs(), 6);
    // A cache of 8,192 tokens has room for one of these at a time.
    expect(beside(withSamples(bare, [5_000, 5_000]), bare)).toBeCloseTo(2 * (20 + 2 * 31) * forwardMs(), 6);
  });

  test('answers after training are about as long as those of the rows', () => {
    const bare = job(examples(64, 9), {}, machine);
    expect(beside(withSamples(bare, [10]), bare)).toBeCloseTo((1 + 31 + 1 + 8) * forwardMs(), 6);
  });

  test('where tokens take long, pieces of prompts are those of a tenth of a second, and 32 at least', () => {
    const { layerCount } = model.architecture as DecoderArchitecture;
    const passesAt = (matmul_gflops: number) => {
      const slow = { ...calls, matmul_gflops, layer_overhead_ms: 0 };
      const called = { ...slow, layer_overhead_ms: 1e6 };
      const on = (rates: typeof calls) => ({ ...machine, rates: { float32: rates, bfloat16: rates } });
      const of = (rates: typeof calls) => {
        const bare = job(examples(64, 1), {}, on(rates));
        return beside(withSamples(bare, [6_400]), bare);
      };
      // Two rounds, the first with 31 further passes.
      return ((of(called) - of(slow)) / (1e6 * (layerCount / 2)) - 31) / 2;
    };
    expect(passesAt(1e-6)).toBeCloseTo(200, 6);
    expect(passesAt(1e12)).toBeCloseTo(13, 6);
  });
});

test('adapters on more layers take more passes, and the optimizer some for each parameter', () => {
  const load = { tokensPerStep: 100, labelsPerStep: 100, squaresPerStep: 1000, microBatchesPerStep: 1 };
  const architecture = model.architecture as DecoderArchitecture;
  const passes = (targets: JobToEstimate['targets'], onlyForward = false) =>
    1e9 * stepWork({ architecture, modules: model.modules, targets, recomputedLayers: 0, onlyForward }, load).traffic;
  const { layerCount, hiddenSize, headCount, headDim } = architecture;
  const queries = targetsOf(model).filter(({ name }) => name.endsWith('q_proj'));
  const none = passes([], true);
  // x is read, the output read and written, in two bytes each.
  const attended = headCount * headDim;
  expect(passes(queries, true) - none).toBeCloseTo(100 * 2 * layerCount * (hiddenSize + 2 * attended), 3);
  const doubled = queries.map((target) => ({ ...target, rank: 2 * target.rank }));
  const parameters = queries.reduce(
    (sum, { rank, in_features, out_features }) => sum + rank * (in_features + out_features),
    0,
  );
  expect(passes(doubled) - passes(queries)).toBeCloseTo(48 * parameters, 3);
});

const targetsOf = ({ modules }: JobToEstimate['model']) => modules.map((module) => ({ ...module, rank: 8, scale: 2 }));

test('samples take the memory of their cache where a pass takes less', () => {
  const rows = examples(64, 16);
  const unasked = job(rows, { batch_size: 1, precision: 'float32' });
  const asked = (prompt: number): JobToEstimate => {
    const settings = { held_out_rows: 0, every_steps: null, max_tokens: 32, temperature: 0, top_p: 1 };
    const samples = { prompts: ['a'], ...settings };
    return { ...unasked, spec: { ...unasked.spec, samples }, prompts: [new Int32Array(prompt)] };
  };
  expect(peakOf(asked(32))).toBe(peakOf(unasked));
  // Both beyond what a pass takes. A cache has a key and a value for each layer and token, in float32.
  const { layerCount, keyValueHeadCount, headDim } = unasked.model.architecture as DecoderArchitecture;
  const perToken = 1.08 * 2 * layerCount * keyValueHeadCount * headDim * 4;
  expect(peakOf(asked(160_000)) - peakOf(asked(80_000))).toBeCloseTo(perToken * 80_000, -2);
});

describe('memory', () => {
  test('grows linearly with the tokens of the largest micro-batch, whatever the accumulation', () => {
    const at = (batch_size: number) => peakOf(job(examples(4096, 64), { batch_size }));
    const [small, middle, large] = [at(256), at(512), at(1024)] as [number, number, number];
    expect(middle).toBeGreaterThan(small);
    expect(large - middle).toBeCloseTo(2 * (middle - small), -4);
    expect(peakOf(job(examples(4096, 64), { batch_size: 256, gradient_accumulation_steps: 4 }))).toBe(small);
  });

  test('is less with layers computed again, and more in float32', () => {
    const rows = examples(512, 256);
    const kept = peakOf(job(rows, { batch_size: 256, precision: 'bfloat16', recompute: 'never' }));
    expect(peakOf(job(rows, { batch_size: 256, precision: 'bfloat16', recompute: 'always' }))).toBeLessThan(kept);
    expect(peakOf(job(rows, { batch_size: 256, precision: 'float32', recompute: 'never' }))).toBeGreaterThan(kept);
  });

  test('is less with moments in 8 bits, by six of the eight bytes that they take for each trained parameter, and for the new ones', () => {
    const rows = examples(4, 10);
    const training = { precision: 'bfloat16', recompute: 'never' } as const;
    const needs = (optimizer: 'adamw' | 'adamw_8bit') =>
      memoryNeeds(job(rows, { ...training, optimizer }), { precision: 'bfloat16', recomputedLayers: 0 })!;
    const [exact, small] = [needs('adamw'), needs('adamw_8bit')];
    const { trainedParameters, engine } = exact.settings;
    const saved = decoderMemory(exact) - decoderMemory(small);
    expect(saved / engine.slack / trainedParameters).toBeCloseTo(2 * (8 - 2 * (1 + 4 / 256)), 6);
  });

  test('memory with dropout is no more than one mask more, however many layers there are', () => {
    const rows = examples(512, 256);
    const planned = job(rows, { batch_size: 256, recompute: 'never' });
    const dropping = { ...planned, spec: { ...planned.spec, lora: { ...planned.spec.lora, dropout: 0.1 } } };
    const widest = Math.max(...planned.targets.map(({ in_features: inFeatures }) => inFeatures));
    const beyond = peakOf(dropping) - peakOf(planned);
    expect(beyond).toBeGreaterThanOrEqual(0);
    expect(beyond).toBeLessThan(16 * widest * 256 * 256);
  });

  test('auto computes layers again only where the job would not fit otherwise', () => {
    const rows = examples(1024, 256);
    const roomy = estimateJob(job(rows, { batch_size: 512 }))!;
    expect(roomy.recomputed_layers).toBe(0);
    const tight = { ...MACHINE, memory_bytes: Math.round(roomy.peak_memory_bytes * 0.99) };
    expect(estimateJob(job(rows, { batch_size: 512 }, tight))!.recomputed_layers).toBeGreaterThan(0);
  });

  test('auto computes as few layers again as the job needs to fit', () => {
    const deep = (recompute: 'auto' | 'always' | 'never', memory_bytes = MACHINE.memory_bytes) => {
      const planned = job(examples(1024, 256), { batch_size: 512, recompute }, { ...MACHINE, memory_bytes });
      return estimateJob(withLayers(planned, 24))!;
    };
    const [kept, all] = [deep('never'), deep('always')];
    expect(all.recomputed_layers).toBe(24);
    const middle = Math.round((kept.peak_memory_bytes + all.peak_memory_bytes) / 2 / 0.95);
    const some = deep('auto', middle);
    expect(some.recomputed_layers).toBeGreaterThan(8);
    expect(some.recomputed_layers).toBeLessThan(16);
    expect(some.peak_memory_bytes).toBeLessThanOrEqual(some.available_memory_bytes);
    // As much as one layer less would need does not fit.
    const ofOne = (kept.peak_memory_bytes - all.peak_memory_bytes) / 23;
    expect(some.peak_memory_bytes + ofOne).toBeGreaterThan(some.available_memory_bytes);
    expect(some.seconds_per_step).toBeGreaterThan(kept.seconds_per_step);
    expect(some.seconds_per_step).toBeLessThan(all.seconds_per_step);
  });
});

describe('memory of several jobs', () => {
  const needs = (rows: number, length: number, training: Partial<JobSpec['training']> = {}) => {
    const planned = job(examples(rows, length), { precision: 'bfloat16', recompute: 'never', ...training });
    return memoryNeeds(planned, { precision: 'bfloat16', recomputedLayers: 0 })!;
  };
  const weights = () => 2 * model.parameterCount * 1.08;

  test('has the base model once, and of one job is what it needs alone', () => {
    const small = needs(64, 32, { batch_size: 4 });
    const alone = decoderMemory(small);
    expect(jointMemory([small], 1024)).toBe(alone);
    const eight = jointMemory(Array(8).fill(small), 1024);
    expect(eight).toBeGreaterThan(alone);
    expect(eight).toBeLessThan(8 * (alone - weights()));
  });

  test('has one pass of the tokens of all, up to the limit, or that of the largest micro-batch', () => {
    const small = needs(64, 32, { batch_size: 4 });
    const large = needs(512, 256, { batch_size: 16 });
    const holding = jointMemory(Array(8).fill(small), 0);
    const sharing = (tokens: number) => jointMemory(Array(8).fill(small), tokens) - holding;
    // Of 128 tokens each.
    expect(sharing(512)).toBeCloseTo((sharing(1024) * 3) / 7, -3);
    expect(sharing(4096)).toBe(sharing(1024));
    expect(jointMemory([small, large], 1024)).toBe(jointMemory([small, large], 0));
  });

  test('has all layers of a job computed again that computes some of them again alone', () => {
    const large = (recomputedLayers: number) => {
      const planned = withLayers(job(examples(512, 256), { batch_size: 16, precision: 'bfloat16' }), 12);
      return memoryNeeds(planned, { precision: 'bfloat16', recomputedLayers })!;
    };
    const small = needs(64, 32, { batch_size: 4 });
    expect(decoderMemory(large(3))).toBeGreaterThan(decoderMemory(large(12)));
    expect(jointMemory([large(3), small], 1024)).toBe(jointMemory([large(12), small], 1024));
    expect(jointMemory([large(0), small], 1024)).toBeGreaterThan(jointMemory([large(12), small], 1024));
  });

  test('is reported as what a job adds', () => {
    const small = estimateJob(job(examples(64, 32), { batch_size: 4 }))!;
    expect(small.added_memory_bytes).toBeLessThan(small.peak_memory_bytes - MACHINE.base_memory_bytes - weights());
    const large = estimateJob(job(examples(512, 256), { batch_size: 256 }))!;
    expect(large.added_memory_bytes).toBeGreaterThan(small.added_memory_bytes);
  });
});

describe('memory on a GPU', () => {
  type Engine = MachineProfile['engine'];
  const engineOf = (
    kind: Engine['kind'],
    { kernels = 'fused', avoided = [] }: { kernels?: KernelSource; avoided?: string[] } = {},
  ): Engine => ({
    kind,
    card: null,
    self_test: {
      tested_at: '2026-01-01T00:00:00Z',
      seconds: 1,
      cases: 1,
      failed: [],
      kernels,
      avoided_kernels: avoided,
      distrust: null,
    },
  });
  const onGpu = (engine: Engine, memory_bytes = 80e9): MachineProfile => {
    return { ...MACHINE, engine, memory_bytes, base_memory_bytes: 0 };
  };
  const cuda = onGpu(engineOf('cuda'));
  const tensorflow = onGpu(engineOf('tensorflow'));
  const settings = { precision: 'bfloat16', recompute: 'never' } as const;

  test("memory on a GPU with TensorFlow's own ops is more than with fused ones, by scores of a bounded number", () => {
    const beyond = (length: number) => {
      const rows = examples(16, length);
      const planned = (machine: MachineProfile) =>
        peakOf(job(rows, { ...settings, batch_size: 16_384 / length }, machine));
      return planned(tensorflow) - planned(cuda);
    };
    const [short, long, longest] = [beyond(1024), beyond(4096), beyond(16_384)] as [number, number, number];
    expect(short).toBeGreaterThan(0);
    // The same tokens in longer rows: no more than a block of scores.
    expect(longest - long).toBeLessThan(0.01 * long);
    expect(long - short).toBeLessThan(1.1 * 12 * 2 ** 25);
  });

  test('memory on a GPU with fused ops is linear in the tokens, whatever the length of the rows', () => {
    const at = (batch_size: number, length: number) =>
      peakOf(job(examples(16, length), { ...settings, batch_size }, cuda));
    expect(at(1, 16_384)).toBe(at(16, 1024));
    expect(at(2, 16_384) / at(1, 16_384)).toBeLessThan(2);
  });

  test('on the CUDA engine weights take 3 % for fragments, and everything else 4.5 % more for classes of sizes', () => {
    const planned = job(examples(16, 1024), { ...settings, batch_size: 16 }, cuda);
    const { settings: ofJob, ...rest } = memoryNeeds(planned, { precision: 'bfloat16', recomputedLayers: 0 })!;
    const bytes = (part: Partial<typeof ofJob>) => decoderMemory({ settings: { ...ofJob, ...part }, ...rest });
    expect(bytes({ weightBytes: ofJob.weightBytes + 1e9 }) - bytes({})).toBeCloseTo(1.03e9, 0);
    const weights = 1.03 * ofJob.weightBytes;
    const exact = bytes({ engine: { ...ofJob.engine, slack: 1 } }) - weights;
    expect((bytes({}) - weights) / exact).toBeCloseTo(1.03 * 1.045, 6);
  });

  test('a fused op that is wrong on a card is counted as what replaces it', () => {
    const machine = onGpu(engineOf('cuda', { avoided: ['batchAttention:bfloat16:128'] }));
    const rows = examples(16, 1024);
    expect(peakOf(job(rows, { ...settings, batch_size: 16 }, machine))).toBeGreaterThan(
      peakOf(job(rows, { ...settings, batch_size: 16 }, cuda)),
    );
  });

  test("on a card that is trusted with plain ops only, a job is planned as with TensorFlow's own ops", () => {
    const plain: MachineProfile = { ...onGpu(engineOf('cuda', { kernels: 'raw' })), kernels: 'tensorflow' };
    const rows = examples(16, 1024);
    const [ofPlain, ofTensorflow, ofFused] = [plain, tensorflow, cuda].map((machine) =>
      peakOf(job(rows, { ...settings, batch_size: 16 }, machine)),
    ) as [number, number, number];
    expect(ofPlain).toBeGreaterThan(ofFused);
    // Only what the allocators keep differs.
    expect(Math.abs(ofPlain / ofTensorflow - 1)).toBeLessThan(0.1);
    expect(logitsPerChunk(plain, 'bfloat16')).toBe(logitsPerChunk(tensorflow, 'bfloat16'));
  });

  test('a job that fits with fused ops may have to compute layers again without them', () => {
    const rows = examples(16, 1024);
    const training = { precision: 'bfloat16', batch_size: 16 } as const;
    const fused = estimateJob(job(rows, training, cuda))!;
    const memory = Math.ceil(fused.peak_memory_bytes / 0.95) + 1e6;
    expect(estimateJob(job(rows, training, onGpu(cuda.engine, memory)))!.recomputed_layers).toBe(0);
    expect(estimateJob(job(rows, training, onGpu(tensorflow.engine, memory)))!.recomputed_layers).toBeGreaterThan(0);
  });

  test('logits in a chunk are what a small share of the card takes, and on the CPU a fixed number', () => {
    expect(logitsPerChunk(MACHINE, 'bfloat16')).toBe(LOGITS_PER_CHUNK);
    expect(logitsPerChunk(null, 'bfloat16')).toBe(LOGITS_PER_CHUNK);
    expect(logitsPerChunk(cuda, 'bfloat16') * 4).toBeCloseTo(80e9 / 64, -2);
    expect(logitsPerChunk(tensorflow, 'bfloat16') * 12).toBeCloseTo(80e9 / 64, -2);
    expect(logitsPerChunk(onGpu(tensorflow.engine, 8e9), 'bfloat16')).toBe(LOGITS_PER_CHUNK);
  });
});

test('time grows with the tokens, and is less where products are faster', () => {
  const seconds = secondsOf(job(examples(64, 64), { batch_size: 8, precision: 'float32' }));
  expect(secondsOf(job(examples(64, 128), { batch_size: 8, precision: 'float32' }))).toBeGreaterThan(1.2 * seconds);
  expect(secondsOf(job(examples(64, 64), { batch_size: 8, precision: 'bfloat16' }))).toBeLessThan(seconds);
  // auto takes the faster one
  expect(secondsOf(job(examples(64, 64), { batch_size: 8 }))).toBeLessThan(seconds);
});

/** So many layers like the first. */
function ofLayers({ layers }: DecoderArchitecture, layerCount: number) {
  return { layerCount, layers: new Array(layerCount).fill(layers[0]) };
}

/** The model with layers so wide that its weights are most of its memory. */
function wideModel(): JobToEstimate['model'] {
  const own = model.architecture as DecoderArchitecture;
  const architecture = {
    ...own,
    hiddenSize: 2048,
    intermediateSize: 8192,
    headDim: 512,
    vocabSize: 2048,
    ...ofLayers(own, 12),
  };
  const linears = Array.from({ length: architecture.layerCount }, (_, index) =>
    layerLinears(architecture, index),
  ).flatMap(({ mixer, mlp }) => [...mixer.inputs, mixer.output, ...mlp!.gateUp, mlp!.down]);
  const numbers = linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0);
  return {
    ...{ ...model, architecture, parameterCount: numbers + 2048 ** 2 },
    linears: new Map(linears.map((linear) => [linear.name, linear])),
    modules: linears.map(({ name, inFeatures, outFeatures }) => {
      return { name, in_features: inFeatures, out_features: outFeatures };
    }),
  };
}
const withModel = (planned: JobToEstimate, changed: JobToEstimate['model']) => ({
  ...{ ...planned, model: changed },
  targets: changed.modules.map((module) => ({ ...module, rank: 1, scale: 1 })),
});

test.each([
  ['on a processor', MACHINE.engine],
  [
    'on a card, which has more logits at a time the larger it is',
    { kind: 'cuda', card: null, self_test: null } as const,
  ],
])('a job just fits into the least memory, %s', (_, engine) => {
  for (const recompute of ['auto', 'never'] as const) {
    const on = (memory_bytes: number) =>
      withLayers(job(examples(4_096, 512), { batch_size: 64, recompute }, { ...MACHINE, engine, memory_bytes }), 40);
    const least = leastMemory(on(640e9))!;
    expect(least).toBeGreaterThan(MACHINE.base_memory_bytes);
    const fits = (memory: number) => {
      const { peak_memory_bytes: peak, available_memory_bytes: available } = estimateJob(on(memory))!;
      return peak <= available;
    };
    expect([fits(least * 1.001), fits(least * 0.98)]).toEqual([true, false]);
    // The machine for which it is planned does not matter.
    expect(leastMemory(on(24e9))! / least).toBeCloseTo(1, 3);
  }
});

describe('a job that cannot fit', () => {
  const refusal = (planned: JobToEstimate): ProductError => {
    try {
      refuseWhatDoesNotFit(planned, estimateJob(planned)!);
    } catch (error) {
      expect(error).toBeInstanceOf(ProductError);
      return error as ProductError;
    }
    throw new Error('was not refused');
  };

  test('is refused with the numbers and with settings that fit', () => {
    const rows = examples(4096, 512);
    const machine = { ...MACHINE, memory_bytes: 1e9 };
    const { code, message, param } = refusal(job(rows, { batch_size: 2048, recompute: 'never' }, machine));
    expect({ code, param }).toEqual({ code: 'does_not_fit', param: 'training.batch_size' });
    expect(message).toMatch(/needs about \d+\.\d GB; gpu-1 has 0\.9 GB/);
    const settings = /batch_size (\d+) and gradient_accumulation_steps (\d+)/.exec(message);
    if (settings !== null) {
      const [batch_size, gradient_accumulation_steps] = [Number(settings[1]), Number(settings[2])];
      expect(batch_size * gradient_accumulation_steps).toBe(2048);
      const mended = job(rows, { batch_size, gradient_accumulation_steps, recompute: 'never' }, machine);
      expect(() => refuseWhatDoesNotFit(mended, estimateJob(mended)!)).not.toThrow();
    } else {
      expect(message).toContain('recompute: "auto"');
    }
  });

  test.each([
    // Halves of 5 are no batches of the same steps.
    [5, 1, 1, [1, 5]],
    [6, 2, 3, [3, 4]],
    [6, 2, 2, [2, 6]],
    // Of 8,000 rows a step, batch_size 1 would need more accumulation steps than there may be.
    [8, 1000, 2, [2, 4000]],
    [8, 1000, 1, undefined],
  ])(
    'batch_size %i, accumulation %i, on a machine for a batch_size of %i: only what trains the same is named',
    (...of) => {
      const [batch_size, gradient_accumulation_steps, fitting, named] = of;
      const rows = examples(16_000, 2048);
      const settings = { gradient_accumulation_steps, recompute: 'always', precision: 'bfloat16' } as const;
      const available = peakOf(job(rows, { ...settings, batch_size: fitting }));
      const machine = { ...MACHINE, memory_bytes: Math.ceil(available / 0.95) + 1 };
      const { message } = refusal(job(rows, { ...settings, batch_size }, machine));
      const found = /batch_size (\d+) and gradient_accumulation_steps (\d+), which train the same/.exec(message);
      expect(found?.slice(1).map(Number)).toEqual(named);
    },
  );

  test('weights in 4 bits are named where no micro-batch fits, and then fit', () => {
    const rows = examples(64, 16);
    const settings = { batch_size: 1, precision: 'bfloat16', recompute: 'always' } as const;
    const needs = peakOf(withModel(job(rows, settings), wideModel()));
    const machine = { ...MACHINE, memory_bytes: 0.6 * needs };
    const planned = withModel(job(rows, settings, machine), wideModel());
    expect(refusal(planned).message).toMatch(/It would fit with base_quantization: "nf4"\.$/);
    const quantized = { ...planned, model: withBaseQuantization(planned.model, 'nf4') };
    expect(() => refuseWhatDoesNotFit(quantized, estimateJob(quantized)!)).not.toThrow();
    expect(settingsForLessMemory(withModel(job(rows, settings), wideModel()))).toBe('Use base_quantization: "nf4".');
    // Nothing of it is named to one that has it.
    const less = { ...quantized, machine: { ...machine, memory_bytes: 0.1 * needs } };
    expect(refusal(less).message).not.toContain('base_quantization');
    expect(settingsForLessMemory(less)).not.toContain('base_quantization');
  });

  test('one that fits is not', () => {
    const planned = job(examples(64, 64));
    expect(() => refuseWhatDoesNotFit(planned, estimateJob(planned)!)).not.toThrow();
  });
});

describe('when memory ran out although the job was expected to fit, what is named lowers the estimate by a fifth', () => {
  const rows = examples(512, 256);

  test('recompute first, which trains the same', () => {
    const settings = { batch_size: 256, precision: 'bfloat16', recompute: 'never' } as const;
    // In a model of two layers it saves little.
    const deep = (recompute: 'never' | 'always') => withLayers(job(rows, { ...settings, recompute }), 12);
    expect(settingsForLessMemory(deep('never'))).toBe('Use recompute: "always", which trains the same.');
    expect(peakOf(deep('always'))).toBeLessThan(0.8 * peakOf(deep('never')));
  });

  test('smaller micro-batches of the same steps are named after that', () => {
    const settings = { batch_size: 256, precision: 'bfloat16', recompute: 'always' } as const;
    const advice = settingsForLessMemory(job(rows, settings));
    const named = /^Use batch_size (\d+) and gradient_accumulation_steps (\d+), which train the same\.$/.exec(advice);
    const [batch_size = 0, gradient_accumulation_steps = 0] = named?.slice(1).map(Number) ?? [];
    expect(batch_size * gradient_accumulation_steps).toBe(256);
    const smaller = { ...settings, batch_size, gradient_accumulation_steps };
    expect(peakOf(job(rows, smaller))).toBeLessThanOrEqual(0.8 * peakOf(job(rows, settings)));
  });

  test('where nothing of that is left, it names shorter rows, another model or another card', () => {
    const settings = { batch_size: 1, precision: 'bfloat16', recompute: 'always' } as const;
    expect(settingsForLessMemory(job(rows, settings))).toMatch(
      /^Use batch_size 1, .*smaller max_seq_length.*GPU with more/,
    );
  });
});

describe('linear attention on a card', () => {
  let usual: JobToEstimate['model'];
  beforeAll(async () => {
    usual = model;
    const folder = '../../../../test/fixtures/families/qwen3_5-text/base';
    model = await readModelFolder(fileURLToPath(new URL(folder, import.meta.url)));
  });
  afterAll(() => {
    model = usual;
  });

  test('takes the time of float32, in which its kernels compute', () => {
    const secondsAt = (kernels: MachineProfile['kernels'], attention: number) => {
      const rates = { ...MACHINE.rates, float32: { ...RATES, attention_gflops: attention } };
      const machine = { ...MACHINE, kernels, rates, engine: { ...MACHINE.engine, kind: 'cuda' as const } };
      return estimateJob(job(examples(8, 100), { precision: 'bfloat16' }, machine))!.seconds_per_step;
    };
    expect(secondsAt('cuda', 10)).toBeGreaterThan(secondsAt('cuda', 20));
    // Plain ops, where the card is not trusted with its kernels.
    expect(secondsAt('tensorflow', 10)).toBe(secondsAt('tensorflow', 20));
  });

  test('keeps states of the size of its kernels', () => {
    const machine = { ...MACHINE, engine: { ...MACHINE.engine, kind: 'cuda' as const } };
    const { settings, load } = memoryNeeds(job(examples(8, 100), {}, machine), {
      precision: 'float32',
      recomputedLayers: 0,
    })!;
    const bytes = (keepsStateGradients: boolean) =>
      passBytes({ ...settings, engine: { ...settings.engine, keepsStateGradients } }, load);
    // Four layers with four heads of 10 by 8 numbers, which are held as 64 by 64, at each 64 tokens.
    const states = (load.mostTokens * 4 * 4 * 4 * (64 * 64 - 10 * 8)) / 64;
    expect(bytes(true) - bytes(false)).toBeGreaterThanOrEqual(states);
  });
});
