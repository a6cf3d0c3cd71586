import { type MachineProfile, ProductError, type TrainingSettings } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { type ChosenPrecision, checkEngineSupports, choosePrecision, precisionOn } from '@lorasmith/planning';
import { engine, type FloatDType, type KernelSet } from '@lorasmith/tensor';
import { matMulRate } from './probe/kernel-rates.js';

/** Checks that the engine of this process has kernels for all parts of a model. @throws ProductError model_not_supported */
export function checkEngineHere(model: ModelFolder): void {
  checkEngineSupports(engine.kind, model);
}

/** The precision as planning reports it. @param machine what was measured of it; null: this process measures it once with its kernels */
export function precisionHere(
  setting: TrainingSettings['precision'],
  family: string,
  machine: MachineProfile | null,
  kernels: KernelSet,
): ChosenPrecision {
  if (machine !== null) return precisionOn(machine, setting, family);
  return choosePrecision(setting, family, (precision) => rateHere(kernels, precision));
}

const rates = new WeakMap<KernelSet, Map<FloatDType, number | null>>();

/** GFLOP/s of matrix products; null where the GPU has none in this type. Measured once, so that `auto` stays the same. */
function rateHere(kernels: KernelSet, precision: FloatDType): number | null {
  const own = rates.get(kernels) ?? new Map<FloatDType, number | null>();
  rates.set(kernels, own);
  let rate = own.get(precision);
  if (rate === undefined) {
    rate = measuredRate(kernels, precision);
    own.set(precision, rate);
  }
  return rate;
}

function measuredRate(kernels: KernelSet, precision: FloatDType): number | null {
  try {
    return matMulRate(kernels, precision);
  } catch (error) {
    // TensorFlow's GPU build says so of bfloat16 on a card that is too old.
    if (precision === 'bfloat16' && engine.kind === 'tensorflow') return null;
    throw error;
  }
}

/** The messages of TensorFlow, its allocator for a GPU, the driver and V8 when an allocation failed. */
const OUT_OF_MEMORY =
  /OOM when allocating|RESOURCE_EXHAUSTED|failed to allocate memory|CUDA_ERROR_OUT_OF_MEMORY|Array buffer allocation failed/i;

const GENERAL_ADVICE = 'Use a smaller batch_size (with more gradient_accumulation_steps) or a smaller max_seq_length.';

/**
 * The true cause of an error in a run. Once the card has failed, it is why anything else fails, whatever that says; and memory
 * that ran out becomes a ProductError with what to change.
 *
 * @param advice a sentence; null: the general one
 */
export function engineError(error: unknown, advice: string | null = null): unknown {
  const failure = cardFailure();
  if (failure !== null) return new Error(failure, { cause: error });
  if (error instanceof ProductError || !isOutOfMemory(error)) return error;
  const where =
    engine.device === 'gpu' ? 'The memory of the GPU ran out.' : 'The engine could not get the memory it needs.';
  return new ProductError('out_of_memory', `${where} ${advice ?? GENERAL_ADVICE}`, { cause: error });
}

/** True if an error of the engine says that it could not get memory. */
export function isOutOfMemory(error: unknown): boolean {
  return OUT_OF_MEMORY.test(error instanceof Error ? error.message : String(error));
}

/** The reason why this process can no longer compute on its card; null while it can, and without a card. */
export function cardFailure(): string | null {
  return engine.cuda?.failure() ?? null;
}
