import type { MachineProfile, Report, TrainingSettings } from '@lorasmith/contracts';

type Precision = 'float32' | 'bfloat16';

export type ChosenPrecision = Report['precision'] & { chosen: Precision };

/**
 * The precision that the job sets; `auto` chooses the type in which matrix products are faster.
 * @param rateOf GFLOP/s of matrix products, null where the machine has none in this type; called only where it decides
 */
export function choosePrecision(
  setting: TrainingSettings['precision'],
  family: string,
  rateOf: (precision: Precision) => number | null,
): ChosenPrecision {
  if (setting === 'bfloat16' && rateOf('bfloat16') === null) {
    return { chosen: 'float32', reason: `The job sets bfloat16, but ${NO_BFLOAT16}.` };
  }
  if (setting !== 'auto') return { chosen: setting, reason: 'The job sets it.' };
  if (family === 'classifier')
    return { chosen: 'float32', reason: 'Classifiers are small, so float32 is fast enough.' };
  const bfloat16 = rateOf('bfloat16');
  if (bfloat16 === null) return { chosen: 'float32', reason: `${upperFirst(NO_BFLOAT16)}.` };
  const float32 = rateOf('float32') ?? 0;
  const measured = `matrix products run at ${Math.round(bfloat16)} GFLOP/s in bfloat16 and ${Math.round(float32)} in float32 on the machine that trains`;
  return bfloat16 > float32
    ? { chosen: 'bfloat16', reason: `Faster: ${measured}.` }
    : { chosen: 'float32', reason: `bfloat16 is not faster: ${measured}.` };
}

const NO_BFLOAT16 = 'the GPU of the machine that trains has no bfloat16 (compute capability 8.0 or later has)';

const upperFirst = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** The precision on this machine. */
export function precisionOn(
  { rates }: MachineProfile,
  setting: TrainingSettings['precision'],
  family: string,
): ChosenPrecision {
  return choosePrecision(setting, family, (precision) => rates[precision]?.matmul_gflops ?? null);
}

/** {@link precisionOn}, as far as it is known when no machine was measured. */
export function knownPrecision(
  setting: TrainingSettings['precision'],
  family: string,
  machine: MachineProfile | null,
): Report['precision'] {
  if (machine !== null) return precisionOn(machine, setting, family);
  if (setting === 'auto' && family !== 'classifier') {
    return { chosen: null, reason: 'The worker measures which is faster on its machine.' };
  }
  return choosePrecision(setting, family, () => 0);
}
