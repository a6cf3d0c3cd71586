import type { Fault, JobSpec, TrainingSettings } from '@lorasmith/contracts';
import type { Target } from './targets.js';

export interface StepCounts {
  /** Optimizer steps in one pass over the training examples. */
  perEpoch: number;
  total: number;
  /** Steps in which the learning rate rises. */
  warmup: number;
}

type StepSettings = Pick<
  TrainingSettings,
  'batch_size' | 'gradient_accumulation_steps' | 'epochs' | 'max_steps' | 'warmup_ratio'
>;

/**
 * Optimizer steps of a job, counted as transformers' Trainer counts them. A single step has no warm-up: the first step of a
 * warm-up has the rate 0 and would train nothing.
 * @param updates steps that train on the same examples
 */
export function countSteps(examples: number, settings: StepSettings, updates = 1): StepCounts {
  const perEpoch = updates * Math.ceil(examples / (settings.batch_size * settings.gradient_accumulation_steps));
  const total = settings.max_steps ?? Math.ceil(settings.epochs * perEpoch);
  return { perEpoch, total, warmup: total === 1 ? 0 : Math.ceil(total * settings.warmup_ratio) };
}

/** Warns of a warm-up without a step after it. */
export function warmupWarnings({ total, warmup }: StepCounts): Fault[] {
  if (warmup < total) return [];
  const message = `The warm-up takes all ${total} steps, so no step reaches the full learning_rate: lower warmup_ratio, or train for more steps.`;
  return [{ code: 'warmup_covers_all_steps', message, param: 'training.warmup_ratio' }];
}

/**
 * Number of rounds of evaluation or samples: before training, on the way and after it. One that is due after the last step is
 * the one after training.
 * @param everySteps steps between two rounds on the way; null: none
 */
export function countRounds(everySteps: number | null, steps: number): number {
  return 2 + (everySteps === null ? 0 : Math.floor((steps - 1) / everySteps));
}

/**
 * Learning rate of a step, as transformers' get_scheduler gives it: it rises linearly from 0 over the warm-up, then stays,
 * falls linearly to 0, or falls as half a cosine.
 * @param step from 0
 */
export function learningRateAt(
  step: number,
  settings: Pick<TrainingSettings, 'learning_rate' | 'lr_scheduler'>,
  steps: { total: number; warmup: number },
): number {
  const { learning_rate: peak, lr_scheduler: scheduler } = settings;
  if (step < steps.warmup) return (peak * step) / steps.warmup;
  const progress = (step - steps.warmup) / Math.max(1, steps.total - steps.warmup);
  switch (scheduler) {
    case 'constant':
      return peak;
    case 'linear':
      return peak * Math.max(0, 1 - progress);
    case 'cosine':
      return peak * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
  }
}

/** The sum of the learning rates of all steps. */
export function sumOfRates(
  { learning_rate: peak, lr_scheduler: scheduler }: Pick<TrainingSettings, 'learning_rate' | 'lr_scheduler'>,
  { total, warmup }: { total: number; warmup: number },
): number {
  const after = total - warmup;
  // Sums of k / n, and of half a cosine, from 0 to n - 1.
  const falling = after === 0 ? 0 : (after + 1) / 2;
  return peak * (Math.max(0, warmup - 1) / 2 + (scheduler === 'constant' ? after : falling));
}

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
