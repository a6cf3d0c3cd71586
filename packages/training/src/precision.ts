import type { MachineProfile, TrainingSettings } from '@lorasmith/contracts';
import { type ChosenPrecision, choosePrecision as chooseByRates, precisionOn } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { matMulRate } from './probe/kernel-rates.js';

/** As planning told it. @param machine what was measured of it; null: it is measured now */
export function choosePrecision(
  setting: TrainingSettings['precision'],
  family: string,
  machine: MachineProfile | null,
): ChosenPrecision {
  return machine === null ? chooseByRates(setting, family, matMulRate) : precisionOn(machine, setting, family);
}

/** A run goes on in the precision it began in, whatever the machine of the next worker is faster in. */
export function precisionOfCheckpoint(chosen: FloatDType): ChosenPrecision {
  return { chosen, reason: 'The training began in it, and goes on from a checkpoint.' };
}
