import type { MachineProfile, Report, TrainingSettings } from '@lorasmith/contracts';
import type { FloatDType } from '@lorasmith/tensor';
import { matMulRate } from './probe/kernel-rates.js';

export type ChosenPrecision = Report['precision'] & { chosen: FloatDType };

/**
 * What the job asks for; `auto` takes the type in which matrix products are faster on this machine.
 * @param machine what was measured of it; null: it is measured now
 */
export function choosePrecision(
  setting: TrainingSettings['precision'],
  family: string,
  machine: MachineProfile | null,
): ChosenPrecision {
  if (setting !== 'auto') return { chosen: setting, reason: 'The job asked for it.' };
  if (family === 'classifier') return { chosen: 'float32', reason: 'Classifiers are small: exact is fast enough.' };
  const float32 = machine?.rates.float32.matmul_gflops ?? matMulRate('float32');
  const bfloat16 = machine?.rates.bfloat16.matmul_gflops ?? matMulRate('bfloat16');
  const measured = `matrix products run at ${Math.round(bfloat16)} GFLOP/s in bfloat16 and ${Math.round(float32)} in float32 here`;
  return bfloat16 > float32
    ? { chosen: 'bfloat16', reason: `Faster: ${measured}.` }
    : { chosen: 'float32', reason: `bfloat16 is not faster: ${measured}.` };
}

/** A run goes on in the precision it began in, whatever the machine of the next worker is faster in. */
export function precisionOfCheckpoint(chosen: FloatDType): ChosenPrecision {
  return { chosen, reason: 'The training began in it, and goes on from a checkpoint.' };
}
