import type { Fault, JobSpec } from '@lorasmith/contracts';
import type { StepCounts } from './count-steps.js';
import { sumOfRates } from './learning-rate.js';
import type { Target } from './target-ranks.js';

/**
 * The least reach of a schedule with which an adapter is worth training: the sum of its learning rates, times the rank and the scale of a layer.
 *
 * AdamW moves a number by about the learning rate in a step, whatever its gradient. So a number of B, which begins with 0, is at most as
 * large as the sum of the rates. With A as it begins, of numbers up to 1 / sqrt(inputs), the output of a layer then changes by at most this
 * share of its input's size, times 0.58. docs/decisions/openai-wire.md has what was measured.
 */
const LEAST_REACH = 4e-3;
/** The reach with which the rows of a small dataset are learned. */
const USUAL_REACH = 2e-2;
/** A rate beyond it is not proposed: it may diverge. */
const LARGEST_RATE = 5e-4;

/** Warns of a schedule with which the adapter would change next to nothing, whatever its rows are. */
export function reachWarnings(
  { lora, training }: Pick<JobSpec, 'lora' | 'training'>,
  targets: readonly Target[],
  steps: StepCounts,
): Fault[] {
  const sum = sumOfRates(training, steps);
  const ratio = lora.lora_plus_ratio ?? 1;
  const factor = ratio * Math.max(...targets.map(({ rank, scale }) => rank * scale));
  if (targets.length === 0 || factor * sum >= LEAST_REACH) return [];
  const { learning_rate: rate } = training;
  const most = sum * Math.max(1, ratio);
  const wanted = (USUAL_REACH / (factor * sum)) * rate;
  const advice =
    sum > 0 && wanted <= LARGEST_RATE
      ? `Raise training.learning_rate, for instance to ${Number(wanted.toPrecision(1))}, or train for more steps.`
      : 'Train for more steps (training.epochs or max_steps), and raise training.learning_rate.';
  const schedule = `a learning_rate of ${rate} over ${steps.total === 1 ? 'one step' : `${steps.total} steps`}`;
  const message = `The adapter would change next to nothing: with ${schedule}, no number of A or B moves by more than ${most.toPrecision(2)}. ${advice}`;
  return [{ code: 'schedule_moves_nothing', message, param: 'training.learning_rate' }];
}
