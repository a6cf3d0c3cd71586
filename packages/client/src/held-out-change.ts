import type { EventData } from '@lorasmith/contracts';

type Evaluated = Pick<EventData<'evaluation-finished'>, 'step' | 'loss' | 'group'>;

/** The evaluations of an adapter that is worse on held-out rows than its base model. */
export interface HeldOutLoss<Evaluation extends Evaluated = Evaluated> {
  before: Evaluation;
  /** The evaluation of the state that was published, or the newest one. */
  after: Evaluation;
  /** The best evaluation of all. */
  best: Evaluation;
}

/** A smaller change of the loss, as a share of what it was, may come from rounding. */
const NOTABLE_SHARE = 0.01;

/**
 * The evaluations of a job that got worse on its held-out rows; null for any other job, and before the second evaluation.
 * @param evaluations - By step, ascending
 * @param publishedStep - The step of the state that became the adapter. @defaultValue the newest evaluation counts
 */
export function worseOnHeldOutRows<Evaluation extends Evaluated>(
  evaluations: readonly Evaluation[],
  publishedStep = Number.POSITIVE_INFINITY,
): HeldOutLoss<Evaluation> | null {
  const [before] = evaluations;
  const after = evaluations.findLast(({ step }) => step <= publishedStep);
  if (before === undefined || after === undefined || after === before || before.step !== 0) return null;
  if (after.loss - before.loss <= NOTABLE_SHARE * Math.abs(before.loss)) return null;
  return { before, after, best: evaluations.reduce((best, one) => (one.loss < best.loss ? one : best), before) };
}

/** The same in words. @param numberText - How numbers are written */
export function worseText({ before, after, best }: HeldOutLoss, numberText: (value: number) => string): string {
  const isReward = after.group !== undefined;
  const valueText = ({ loss, group }: Evaluated) => numberText(group?.reward ?? loss);
  const change = isReward ? 'reward fell' : 'loss rose';
  const advice =
    best === before
      ? 'Lower the learning rate, or train fewer steps.'
      : `It was best after step ${best.step} (${valueText(best)}): train fewer steps, or set training.publish to best.`;
  return `The held-out ${change} from ${valueText(before)} to ${valueText(after)}: the adapter is worse than its base model on rows that it has not seen. ${advice}`;
}
