import type { MachineProfile, TrainingSettings } from '@lorasmith/contracts';
import { type ChosenPrecision, choosePrecision as chooseByRates, precisionOn } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { matMulRate } from './probe/kernel-rates.js';

/** As planning reports it. @param machine what was measured of it; null: it is measured now */
export function choosePrecision(
  setting: TrainingSettings['precision'],
  family: string,
  machine: MachineProfile | null,
): ChosenPrecision {
  return machine === null ? chooseByRates(setting, family, matMulRate) : precisionOn(machine, setting, family);
}

/** A run keeps its precision, whichever is faster on the machine of the next worker. */
export function precisionOfCheckpoint(chosen: FloatDType): ChosenPrecision {
  return { chosen, reason: 'The training is resumed from a checkpoint in this precision.' };
}
