import type { MachineProfile, TrainingSettings } from '@lorasmith/contracts';
import { type ChosenPrecision, choosePrecision, precisionOn } from '@lorasmith/planning';
import { engine, type FloatDType, type KernelSet } from '@lorasmith/tensor';
import { matMulRate } from './probe/kernel-rates.js';

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

/** A run keeps its precision, whichever is faster on the machine of the next worker. */
export function precisionOfCheckpoint(chosen: FloatDType): ChosenPrecision {
  return { chosen, reason: 'The training is resumed from a checkpoint in this precision.' };
}
