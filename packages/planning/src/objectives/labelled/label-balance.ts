import type { Fault, PreferenceObjective, Report } from '@lorasmith/contracts';
import { giveTurn } from '../../planning-stopped.js';
import type { LabelledExamples } from './labelled-examples.js';

export type LabelCounts = NonNullable<Report['labels']>;

/** Examples between two turns of the event loop. */
const LABELS_PER_TURN = 20_000;

/** How many answers have each label. @throws ProductError `cancelled` */
export async function countLabels(examples: LabelledExamples, signal: AbortSignal | undefined): Promise<LabelCounts> {
  let desirable = 0;
  for (let index = 0; index < examples.count; index++) {
    if (examples.label(index)) desirable++;
    if (index % LABELS_PER_TURN === 0) await giveTurn(signal);
  }
  return { desirable, undesirable: examples.count - desirable };
}

/** The warnings of answers that are mostly of one label, where no weight makes up for it: as in TRL, by equation 8 of arXiv:2402.01306. */
export function balanceWarnings(
  { desirable, undesirable }: LabelCounts,
  { desirable_weight: ofTrue, undesirable_weight: ofFalse }: PreferenceObjective,
): Fault[] {
  const warning = (message: string): Fault[] => [
    { code: 'unbalanced_labels', message, param: 'objective.desirable_weight' },
  ];
  if (desirable === 0 || undesirable === 0) {
    const [all, missing] = desirable === 0 ? ['false', 'true'] : ['true', 'false'];
    return warning(`All answers have the label ${all}. Add some with the label ${missing}: only then are both learnt.`);
  }
  if (desirable === undesirable) return [];
  const rangeOfTrue = [1, 1.33].map((factor) => hundredths((undesirable * ofFalse * factor) / desirable));
  const rangeOfFalse = [1 / 1.33, 1].map((factor) => hundredths((desirable * ofTrue * factor) / undesirable));
  if (isWithin(ofTrue, rangeOfTrue) || isWithin(ofFalse, rangeOfFalse)) return [];
  return warning(
    `${desirable} answers have the label true and ${undesirable} the label false, and no weight makes up for it. Choose ` +
      `objective.desirable_weight from ${rangeOfTrue.join(' to ')}, or objective.undesirable_weight from ${rangeOfFalse.join(' to ')}, not both.`,
  );
}

function hundredths(value: number): number {
  return Math.round(100 * value) / 100;
}

function isWithin(value: number, range: readonly number[]): boolean {
  return value >= range[0]! && value <= range[1]!;
}
