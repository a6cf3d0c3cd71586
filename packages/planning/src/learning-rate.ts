import type { TrainingSettings } from '@lorasmith/contracts';

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
