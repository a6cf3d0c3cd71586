import { ProductError, type TrainingSettings } from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/lora';
import { add, concat, dispose, keep, scope, type Tensor } from '@lorasmith/tensor';
import type { AdamW } from './adamw.js';
import type { Batch } from './batches.js';
import { clippingFactor, normOf, scaled } from './gradient-norm.js';
import { takeLossSum } from './objectives/objective.js';
import { yieldToEventLoop } from './stop.js';

export interface StepResult {
  /** Mean over the trained tokens of the step, before the update. */
  loss: number;
  /** Before clipping. */
  gradNorm: number;
  tokens: number;
  trainedTokens: number;
}

/**
 * One optimizer step over some micro-batches. Loss and gradient are sums divided by the normaliser of the whole step, so
 * the division into micro-batches does not change them.
 * @param batches made one at a time, as needed
 * @throws ProductError non_finite_loss, before anything is changed; cancelled between micro-batches
 */
export async function optimizerStep(
  adapter: LoraAdapter,
  optimizer: AdamW,
  batches: Iterable<Batch>,
  settings: Pick<TrainingSettings, 'seed' | 'max_grad_norm'> & { learningRate: number; recompute: boolean },
  signal: AbortSignal,
): Promise<StepResult> {
  let gradientSum: Tensor | null = null;
  const losses: Tensor[] = [];
  let trainedTokens = 0;
  let tokens = 0;
  let pass = 0;
  try {
    for (const batch of batches) {
      const dropoutSeed = [settings.seed, optimizer.step * PASSES_PER_STEP + pass++] as const;
      const result = batch.lossAndGradients({ adapters: [{ adapter, dropoutSeed }], recompute: settings.recompute });
      losses.push(keep(result.losses));
      trainedTokens += result.normaliser;
      tokens += batch.tokens;
      const gradient = adapter.takeGradient();
      const before: Tensor | null = gradientSum;
      gradientSum = keep(before === null ? gradient : scope(() => add(before, gradient)));
      if (before !== null) dispose([before, gradient]);
      await yieldToEventLoop(signal);
    }
    const loss = takeLossSum(keep(concat(losses, 0))) / trainedTokens;
    const gradient = keep(scaled(gradientSum!, 1 / trainedTokens));
    try {
      const gradNorm = normOf(gradient);
      checkFinite(loss, gradNorm, optimizer.step + 1);
      const clipped = scaled(gradient, clippingFactor(gradNorm, settings.max_grad_norm));
      adapter.setParameters(optimizer.update(adapter.parameters, clipped, settings.learningRate));
      dispose(clipped);
      return { loss, gradNorm, tokens, trainedTokens };
    } finally {
      dispose(gradient);
    }
  } finally {
    dispose([gradientSum, losses]);
  }
}

/** Exceeds the limit of gradient_accumulation_steps, so that each pass has its own dropout. */
const PASSES_PER_STEP = 4096;

function checkFinite(loss: number, gradNorm: number, step: number): void {
  if (Number.isFinite(loss) && Number.isFinite(gradNorm)) return;
  const what = Number.isFinite(loss) ? `gradient norm (${gradNorm})` : `loss (${loss})`;
  throw new ProductError(
    'non_finite_loss',
    `The ${what} of step ${step} is not a finite number. Lower learning_rate, or check the rows. Nothing was published.`,
  );
}
