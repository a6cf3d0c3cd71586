import type { Fault, TrainingSettings } from '@lorasmith/contracts';

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
