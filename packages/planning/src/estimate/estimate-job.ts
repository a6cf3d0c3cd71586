import { type JobSpec, type MachineProfile, ProductError, type Report } from '@lorasmith/contracts';
import { type DecoderArchitecture, type ModelFolder, withBaseQuantization } from '@lorasmith/model-folder';
import type { Examples } from '../example-file/examples.js';
import { precisionOn } from '../machine-settings.js';
import { loadOf } from '../objectives/objectives.js';
import { countRounds, type StepCounts } from '../schedule.js';
import { type Target, trainedNumbers } from '../targets.js';
import { adaptedLayers } from './adapted-layers.js';
import { type BatchLoad, batchLoad, evaluationLoad, type LargestPass } from './batch-load.js';
import { engineMemory, logitsPerChunk } from './engine-memory.js';
import {
  addedMemory,
  bytesPerNumber,
  decoderMemory,
  type MemoryNeeds,
  type MemorySettings,
} from './estimate-memory.js';
import { type AdapterPasses, firstPassSeconds, type StepLoad, secondsPerStep } from './estimate-time.js';
import { rolloutLoad, type SamplingLoad, sampleCacheBytes, sampleSeconds } from './sampling.js';
import { decodedMemory, weightMemory, weightTraffic } from './weight-memory.js';

export interface JobToEstimate {
  spec: JobSpec;
  model: ModelFolder;
  targets: readonly Target[];
  training: Examples;
  validation: Examples | null;
  steps: StepCounts;
  /** The prompts of samples, as tokens. */
  prompts: readonly Int32Array[];
  machine: MachineProfile;
}

type Estimate = NonNullable<Report['estimate']>;
type Precision = 'float32' | 'bfloat16';

/** Each round reduces the error by a factor of about ten. */
const LEAST_MEMORY_ROUNDS = 4;
/** The share of a machine's memory that jobs may not use. */
const KEPT_FREE = 0.05;

/** The memory of a machine that a trainer may use. */
export function availableMemory(machine: MachineProfile): number {
  return Math.floor(machine.memory_bytes * (1 - KEPT_FREE));
}

/** The sizes that the memory of a job depends on, as it is trained; null for a classifier, which is small. */
export function memoryNeeds(
  job: JobToEstimate,
  { precision, recomputedLayers }: { precision: Precision; recomputedLayers: number },
): MemoryNeeds | null {
  const { architecture } = job.model;
  if (architecture.kind !== 'decoder') return null;
  const load = batchLoad(job.training, job.spec, job.steps);
  const settings = memorySettings(job, architecture, precision, recomputedLayers);
  return { settings, load, evaluation: evaluationOf(job) };
}

/** The job with weights that are quantized when they are read; null where it has such, or cannot. */
export function withQuantizedBase(job: JobToEstimate): JobToEstimate | null {
  if (job.model.quantized.size > 0) return null;
  try {
    const spec = { ...job.spec, training: { ...job.spec.training, base_quantization: 'nf4' as const } };
    return { ...job, spec, model: withBaseQuantization(job.model, 'nf4') };
  } catch (error) {
    if (error instanceof ProductError) return null;
    throw error;
  }
}

/**
 * The time and memory of a job on a machine. Null for a classifier: it is small, and no rates are measured for it.
 *
 * Memory (`estimate-memory.ts`) is what the trainer takes without a model, the weights, the vectors of the trained parameters, and the
 * largest of its passes: training, evaluation, sampling, the check of the merged head. Time (`estimate-time.ts`) is the sum of a step's
 * operations, its traffic of activations and of weights, and a call of each layer, each divided by its measured rate.
 */
export function estimateJob(job: JobToEstimate): Estimate | null {
  const { spec, model, machine, steps } = job;
  const { architecture } = model;
  if (architecture.kind !== 'decoder') return null;
  const { chosen: precision } = precisionOn(machine, spec.training.precision, architecture.family);
  const load = batchLoad(job.training, spec, steps);
  const available = availableMemory(machine);
  const evaluation = evaluationOf(job);
  const settings = memorySettings(job, architecture, precision, 0);
  const needs = (recomputedLayers: number) => ({ settings: { ...settings, recomputedLayers }, load, evaluation });
  const peak = (recomputedLayers: number) => machine.base_memory_bytes + decoderMemory(needs(recomputedLayers));
  const layers = adaptedLayers(architecture, job.targets);
  const recomputedLayers = {
    always: () => layers,
    never: () => 0,
    auto: () => fewestRecomputed(layers, (count) => peak(count) <= available),
  }[spec.training.recompute]();
  const rates = machine.rates[precision] ?? machine.rates.float32;
  const ofWeights = { weights: weightTraffic(model, precision), logitsInChunk: settings.logitsInChunk };
  const adapters = adapterPassesOf(job);
  const work = { architecture, modules: model.modules, targets: job.targets, recomputedLayers, adapters, ...ofWeights };
  // The CUDA engine's kernels for it compute in float32, without tensor cores.
  const { attention_gflops: stateGflops } = machine.kernels === 'cuda' ? machine.rates.float32 : rates;
  const secondsOf = (passes: StepLoad, onlyForward: boolean) =>
    secondsPerStep({ ...work, onlyForward }, passes, rates, stateGflops);
  // An objective may read its examples once more before a step.
  const perStep =
    secondsOf(load, false) +
    (loadOf(job.training, spec.objective).readings > 1 ? secondsOf(load, true) : 0) +
    groupSeconds(job, load, (passes) => secondsOf(passes, true));
  return {
    machine: machine.worker,
    peak_memory_bytes: Math.round(peak(recomputedLayers)),
    added_memory_bytes: Math.round(addedMemory(needs(recomputedLayers), machine.pass_tokens)),
    available_memory_bytes: available,
    seconds_per_step: perStep,
    total_seconds:
      perStep * steps.total +
      firstPassSeconds(architecture, rates) +
      secondsOutsideSteps(job, (passes) => secondsOf(passes, true)),
    recomputed_layers: recomputedLayers,
  };
}

/**
 * The memory, in bytes, of a machine like this one into which the job would just fit: with all layers recomputed, where the job
 * leaves that open. Null for a classifier.
 */
export function leastMemory(job: JobToEstimate): number | null {
  const { recompute } = job.spec.training;
  const training = { ...job.spec.training, recompute: recompute === 'auto' ? ('always' as const) : recompute };
  const spec = { ...job.spec, training };
  const neededOn = (machine: MachineProfile) => {
    const estimate = estimateJob({ ...job, spec, machine });
    return estimate && Math.ceil(estimate.peak_memory_bytes / (1 - KEPT_FREE));
  };
  let least = neededOn(job.machine);
  // A smaller card computes fewer logits at a time, so it needs less than a larger one.
  for (let rounds = 0; least !== null && rounds < LEAST_MEMORY_ROUNDS; rounds++) {
    least = neededOn({ ...job.machine, memory_bytes: least });
  }
  return least;
}

/** The fewest recomputed layers with which a job fits; all of them where it does not fit. */
export function fewestRecomputed(layers: number, fits: (count: number) => boolean): number {
  let count = 0;
  while (count < layers && !fits(count)) count++;
  return count;
}

/** The passes of an adapter that shares none of them: with concurrent jobs it is never joint. GPU_LORA_PADDING, worth some per cent, is ignored. */
function adapterPassesOf({ spec, machine }: JobToEstimate): AdapterPasses {
  if (machine.engine.kind === 'cpu') return 'one-op';
  return machine.kernels === 'cuda' && spec.lora.dropout === 0 ? 'joint' : 'separate';
}

/** Sizes of the largest forward pass of the evaluations and of the reference model; null where the job has neither. */
function evaluationOf({ spec, training, validation, machine }: JobToEstimate): MemoryNeeds['evaluation'] {
  const { readings, hasReference } = loadOf(training, spec.objective);
  if (readings === 0) return null;
  const loads = [validation, hasReference ? training : null].flatMap((examples) =>
    examples === null ? [] : [evaluationLoad(examples, spec, machine.pass_tokens)],
  );
  const most = (of: keyof LargestPass) => Math.max(...loads.map((load) => load[of] ?? 0));
  if (loads.length === 0) return null;
  return {
    mostTokens: most('mostTokens'),
    mostRepeated: most('mostRepeated'),
    mostLabels: most('mostLabels'),
    longestRow: most('longestRow'),
  };
}

function memorySettings(
  { spec, model, targets, prompts, machine, training }: JobToEstimate,
  architecture: DecoderArchitecture,
  precision: Precision,
  recomputedLayers: number,
): MemorySettings {
  const { dropout } = spec.lora;
  const { optimizer } = spec.training;
  const job = { model, architecture, targets, machine, precision, recomputedLayers, optimizer, dropout };
  const rounds = [samplingOf(spec, prompts), rolloutOf(spec, training, rowsPerStep(spec))].filter(
    (round) => round !== null,
  );
  const cacheBytes = Math.max(
    0,
    ...rounds.map((round) => sampleCacheBytes(architecture, round, bytesPerNumber(precision))),
  );
  return { ...adapterMemory(job), sampleCacheBytes: cacheBytes };
}

/** An adapter that is trained on a model. */
export type AdapterToEstimate = Pick<JobToEstimate, 'model' | 'targets' | 'machine'> &
  Pick<MemorySettings, 'architecture' | 'precision' | 'recomputedLayers' | 'optimizer' | 'dropout'>;

/** The settings on which the memory of a training depends that answers no prompts. */
export function adapterMemory({ model, machine, ...job }: AdapterToEstimate): MemorySettings {
  const { precision, targets } = job;
  return {
    ...job,
    trainedParameters: trainedNumbers(targets),
    weightBytes: weightMemory(model, precision, machine.kernels),
    decodedBytes: decodedMemory(model, precision, machine.kernels),
    engine: engineMemory(machine.engine),
    logitsInChunk: logitsPerChunk(machine, precision),
    sampleCacheBytes: 0,
  };
}

/** Seconds of a job outside its steps: evaluations, the reference and samples. @param secondsOf forward passes */
function secondsOutsideSteps(job: JobToEstimate, secondsOf: (passes: StepLoad) => number): number {
  const { spec, training, validation, prompts, steps, machine } = job;
  const { readings, hasReference, sequences } = loadOf(training, spec.objective);
  const once = (examples: Examples) => {
    // An evaluation samples answers to as many prompts at once as a step does.
    const rollout = rolloutOf(spec, examples, rowsPerStep(spec));
    if (rollout !== null) {
      const rounds = Math.ceil(examples.count / rollout.prompts.length);
      return rounds * sampleSeconds(rollout, rollout.settings.max_tokens, secondsOf);
    }
    return readings * secondsOf(evaluationLoad(examples, spec, machine.pass_tokens));
  };
  const evaluation = validation === null ? 0 : once(validation);
  // The reference reads all answers once.
  const reference = hasReference ? once(training) + evaluation : 0;
  const evaluations = countRounds(spec.training.eval_every_steps, steps.total) * evaluation + reference;
  const sampling = samplingOf(spec, prompts);
  if (sampling === null) return evaluations;
  const { max_tokens: most } = sampling.settings;
  const everySteps = spec.samples!.every_steps;
  // Before training an answer may be of any length, then of about that of the rows.
  const ofRows = training.trainedTokens / training.count / sequences;
  const learned = readings === 0 ? most : Math.min(most, Math.max(1, ofRows));
  const rounds = countRounds(everySteps, steps.total);
  const [first, later] = [most, learned].map((tokens) => sampleSeconds(sampling, tokens, secondsOf)) as [
    number,
    number,
  ];
  return evaluations + first + (rounds - 1) * later;
}

function rowsPerStep({ training }: JobSpec): number {
  return training.batch_size * training.gradient_accumulation_steps;
}

/** Mean seconds of a step for sampling answers, and for reading them with the reference model. @param secondsOf forward passes */
function groupSeconds(
  { spec, training }: JobToEstimate,
  load: BatchLoad,
  secondsOf: (passes: StepLoad) => number,
): number {
  const { answers, updates } = loadOf(training, spec.objective);
  const rollout = rolloutOf(spec, training, rowsPerStep(spec));
  if (answers === null || rollout === null) return 0;
  const reference = answers.hasReference ? secondsOf(load) : 0;
  return sampleSeconds(rollout, answers.most, secondsOf) / updates + reference;
}

/**
 * The answers to a number of prompts, which are sampled together; null for a job that samples none. Prompts are taken to be of mean length,
 * answers as long as they may be.
 */
function rolloutOf(spec: JobSpec, examples: Examples, prompts: number): SamplingLoad | null {
  const { answers } = loadOf(examples, spec.objective);
  if (answers === null) return null;
  const length = Math.ceil(examples.tokens / examples.count);
  return rolloutLoad(
    answers,
    Array.from({ length: Math.min(prompts, examples.count) }, () => ({ length })),
  );
}

function samplingOf({ samples }: JobSpec, prompts: readonly Int32Array[]): SamplingLoad | null {
  return samples === null ? null : { settings: samples, prompts };
}
