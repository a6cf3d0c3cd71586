import type { MachineProfile, TrainingSettings } from '@lorasmith/contracts';
import { type ChosenPrecision, choosePrecision, precisionOn } from '@lorasmith/planning';
import { engine, type FloatDType } from '@lorasmith/tensor';
import { matMulRate } from './probe/kernel-rates.js';

/** The precision as planning reports it. @param machine what was measured of it; null: this process measures it once */
export function precisionHere(
  setting: TrainingSettings['precision'],
  family: string,
  machine: MachineProfile | null,
): ChosenPrecision {
  return machine === null ? choosePrecision(setting, family, rateHere) : precisionOn(machine, setting, family);
}

const rates = new Map<FloatDType, number | null>();

/** GFLOP/s of matrix products; null where the GPU has none in this type. Measured once, so that `auto` stays the same. */
function rateHere(precision: FloatDType): number | null {
  let rate = rates.get(precision);
  if (rate === undefined) {
    rate = measuredRate(precision);
    rates.set(precision, rate);
  }
  return rate;
}

function measuredRate(precision: FloatDType): number | null {
  try {
    return matMulRate(precision);
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
