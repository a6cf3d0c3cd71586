import type { ModelFolder } from '@lorasmith/model-folder';
import { ALL_LAYERS, LoraAdapter, loadDecoder, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import {
  cast,
  chooseKernels,
  engine,
  type FloatDType,
  type KernelSet,
  scope,
  sum,
  type Tensor,
  tensorOf,
  toFloat32Array,
  toNumber,
} from '@lorasmith/tensor';
import {
  type CaseSizes,
  type NumericCase,
  numericCases,
  seededNumbers,
  seededTensor,
  TRAINING_STEP,
} from '@lorasmith/tensor/numeric-cases';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';
import { runnable } from './batches.js';
import { engineError } from './engine-here.js';
import { NextToken } from './objectives/next-token/next-token.js';
import { optimizerStep } from './optimizer-step.js';
import { type ProbeModelSize, withProbeModel } from './probe/measure-machine.js';
import { PassScheduler } from './shared-pass/pass-scheduler.js';

/**
 * `kernels`: each fused kernel, simple op and product by itself. `basics`: simple ops and products alone. `training`: whole steps,
 * with these kernels.
 */
export type SelfTestPart = 'kernels' | 'basics' | 'training';

export interface SelfTestOptions {
  /** The kernels that are tested. */
  kernels: KernelSet;
  part: SelfTestPart;
  sizes: CaseSizes;
  /** The times that each case is computed. */
  runs: 1 | 2;
  /** Names of cases that are left out, since an earlier process died in one of them or has done it. */
  skip: readonly string[];
  /** Awaited: a case may end the process, and its name must have been sent. */
  onStart(name: string): Promise<void>;
  onComputed(computed: ComputedCase): Promise<void>;
}

const PROBE_MODELS: Record<CaseSizes, ProbeModelSize> = { small: 'tiny', full: 'realistic' };

/** Computes the cases of one part on the engine of this process. What they mean is decided where two processes are compared. */
export async function computeSelfTest({ part, sizes, ...options }: SelfTestOptions): Promise<void> {
  if (part === 'kernels') return await computeAll(numericCases(sizes), options);
  if (part === 'basics') return await computeAll(numericCases(sizes).filter(isBasic), options);
  await withProbeModel((folder) => computeAll(trainingCases(folder), options), PROBE_MODELS[sizes]);
}

/** A case that every kernel and every plain variant rests on. */
function isBasic({ subject: { kind } }: NumericCase): boolean {
  return kind === 'op' || kind === 'product';
}

async function computeAll(
  cases: readonly NumericCase[],
  { kernels, runs, skip, onStart, onComputed }: Omit<SelfTestOptions, 'part' | 'sizes'>,
): Promise<void> {
  const skipped = new Set(skip);
  for (const one of cases) {
    if (skipped.has(one.name)) continue;
    await onStart(one.name);
    await onComputed(await computeCase(one, kernels, runs));
  }
}

/** The numbers that a case computed. */
export type SelfTestValues = Readonly<Record<string, Float32Array>>;

/** The outcome of a case in one process: its numbers, or the error. */
export interface ComputedCase extends Omit<NumericCase, 'compute'> {
  values: SelfTestValues | null;
  /** True if the second run gave the same, bit for bit. */
  isRepeatable: boolean;
  error: string | null;
}

/** Computes a case `runs` times. An error is a result, too: a kernel that cannot be launched is one that failed. */
export async function computeCase(
  { name, subject, tolerance, compute }: NumericCase,
  kernels: KernelSet,
  runs: 1 | 2,
): Promise<ComputedCase> {
  const described = { name, subject, tolerance };
  try {
    const values = await valuesOf(compute, kernels);
    const again = runs === 1 ? values : await valuesOf(compute, kernels);
    return { ...described, values, isRepeatable: isSame(values, again), error: null };
  } catch (error) {
    const cause = engineError(error);
    const message = cause instanceof Error ? cause.message : String(cause);
    return { ...described, values: null, isRepeatable: false, error: message };
  }
}

async function valuesOf(compute: NumericCase['compute'], kernels: KernelSet): Promise<SelfTestValues> {
  let later: Promise<SelfTestValues> | null = null;
  const values = scope(() => {
    const computed = compute(kernels);
    if (computed instanceof Promise) {
      later = computed;
      return {};
    }
    const entries = Object.entries(computed as Readonly<Record<string, Tensor>>);
    return Object.fromEntries(entries.map(([name, tensor]) => [name, toFloat32Array(cast(tensor, 'float32'))]));
  });
  return later ?? values;
}

function isSame(values: SelfTestValues, others: SelfTestValues): boolean {
  return Object.entries(values).every(([name, numbers]) => {
    const other = others[name];
    return other !== undefined && bytesOf(numbers).equals(bytesOf(other));
  });
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

const RANK = 8;
/** Row lengths of one micro-batch; there are two. */
const ROW_LENGTHS = [31, 12, 64];
const LEARNING_RATE = 1e-3;
/** A step beyond the first ones, in which AdamW is so steep that rounding decides the sign of an update. */
const STEP = 100;

/**
 * One step of training on the probe model in each dtype, with every linear layer adapted: two micro-batches forward and
 * backward with recompute and dropout, clipping, and AdamW. It computes with the kernels that a trainer would use.
 */
export function trainingCases(folder: ModelFolder): NumericCase[] {
  return (['float32', 'bfloat16'] as const).map((dtype) => ({
    name: `training step ${dtype}`,
    subject: { kind: 'training', name: dtype },
    tolerance: TRAINING_STEP[dtype],
    compute: (kernels) => trainingStep(folder, dtype, kernels),
  }));
}

async function trainingStep(
  folder: ModelFolder,
  dtype: FloatDType,
  kernels: KernelSet,
): Promise<Record<string, Float32Array>> {
  const decoder = await loadDecoder(folder, dtype, kernels);
  const targets = folder.modules.map((layer) => ({ ...layer, rank: RANK, scale: 2 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0.1, seed: 1 });
  const count = adapter.parameterCount;
  const optimizer = new AdamW(kernels, count, { ...ADAMW_DEFAULTS, weightDecay: 0.01 });
  try {
    // A new adapter has B = 0, so that the gradient of A is zero.
    const before = seededNumbers([count], 41).map((value) => 0.02 * value);
    adapter.setParameters(tensorOf(before, [count]));
    optimizer.restore(STEP, {
      first: tensorOf(seededNumbers([count], 42).map((value) => 1e-3 * value), [count]),
      second: tensorOf(seededNumbers([count], 43).map((value) => 1e-6 * (value ** 2 + 0.1)), [count]),
    }); // biome-ignore format: one moment a line
    const objective = new NextToken(decoder);
    const batches = [1, 2].map((seed) => {
      const batch = batchOf(seed, decoder.architecture.vocabSize);
      return runnable(objective, batch);
    });
    objective.lossAndGradients(batchOf(3, decoder.architecture.vocabSize), { adapters: [{ adapter }] });
    const gradient = takenFrom(adapter);
    const settings = { seed: 1, max_grad_norm: 0.5, learningRate: LEARNING_RATE, recomputedLayers: ALL_LAYERS };
    const { loss, gradNorm } = await optimizerStep(adapter, optimizer, batches, settings, new PassScheduler().join());
    const update = toFloat32Array(adapter.parameters).map((value, i) => value - before[i]!);
    const moments = {
      first: toFloat32Array(optimizer.moments.first),
      second: toFloat32Array(optimizer.moments.second),
    };
    return { loss: Float32Array.of(loss), gradientNorm: Float32Array.of(gradNorm), gradient, update, ...moments };
  } finally {
    optimizer.dispose();
    adapter.dispose();
    decoder.dispose();
  }
}

function takenFrom(adapter: LoraAdapter): Float32Array {
  const gradient = adapter.takeGradient();
  try {
    return toFloat32Array(gradient);
  } finally {
    gradient.dispose();
  }
}

function batchOf(seed: number, vocabSize: number): TokenBatch {
  return tokenBatchOf(
    ROW_LENGTHS.map((length, row) => ({
      ids: Int32Array.from({ length }, (_, i) => (seed * 97 + row * 31 + i * 17) % vocabSize),
      trained: new Uint8Array(length).fill(1),
    })),
  );
}

/**
 * Computes a product and a sum with TensorFlow's own ops, and reads the result.
 * @throws Error when the engine has no GPU, or cannot compute on it
 */
export function tryGpu(): void {
  if (engine.device !== 'gpu') throw new Error('The engine sees no GPU.');
  const kernels = chooseKernels('raw');
  const found = scope(() => toNumber(sum(kernels.matMul(seededTensor([16, 16], 1), seededTensor([16, 16], 2)), 'all')));
  if (!Number.isFinite(found)) throw new Error(`The GPU computed ${found} where a number was expected.`);
}
