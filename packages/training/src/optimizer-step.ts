import { MAX_ACCUMULATION_STEPS, ProductError, type TrainingSettings } from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/models';
import { add, concat, dispose, keep, scope, type Tensor, toFloat32Array } from '@lorasmith/tensor';
import type { AdamW, ComputedUpdate } from './adamw.js';
import type { Batch } from './batches.js';
import { type OwnMetrics, sumOf } from './objectives/objective.js';
import type { Participant } from './shared-pass/pass-scheduler.js';

export interface StepResult {
  /** Mean over the trained tokens of the step, or over its pairs of answers or its answers, before the update. */
  loss: number;
  /** Share of the trained tokens that the model ranks first, before the update. */
  accuracy: number;
  /** The norm before clipping. */
  gradNorm: number;
  tokens: number;
  trainedTokens: number;
  /** The metrics of an objective that has others. */
  metrics: OwnMetrics;
}

/**
 * One optimizer step over some micro-batches. Loss and gradient are sums divided by the normaliser of the whole step, so
 * the division into micro-batches does not change them.
 * @param batches made one at a time, as needed
 * @param passes what runs the micro-batches
 * @throws ProductError non_finite_loss, before anything is changed; cancelled before a micro-batch
 */
export async function optimizerStep(
  adapter: LoraAdapter,
  optimizer: AdamW,
  batches: Iterable<Batch> | AsyncIterable<Batch>,
  settings: Pick<TrainingSettings, 'seed' | 'max_grad_norm'> & { learningRate: number; recomputedLayers: number },
  passes: Pick<Participant, 'lossAndGradients'>,
): Promise<StepResult> {
  const maxNorm = settings.max_grad_norm;
  let gradientSum: Tensor | null = null;
  let update: ComputedUpdate | null = null;
  const losses: Tensor[] = [];
  const correct: Tensor[] = [];
  const figures: unknown[] = [];
  let last: Batch | null = null;
  let [normaliser, trainedTokens] = [0, 0];
  let tokens = 0;
  let pass = 0;
  try {
    for await (const batch of batches) {
      const dropoutSeed = [settings.seed, optimizer.step * MAX_ACCUMULATION_STEPS + pass++] as const;
      const { recomputedLayers } = settings;
      const result = await passes.lossAndGradients({ batch, adapter, dropoutSeed, recomputedLayers });
      losses.push(result.losses);
      correct.push(result.correct);
      figures.push(...(result.figures ?? []));
      normaliser += result.normaliser;
      last = batch;
      trainedTokens += batch.labels;
      tokens += batch.tokens;
      const { gradient } = result;
      const before: Tensor | null = gradientSum;
      gradientSum = before === null ? gradient : keep(scope(() => add(before, gradient)));
      if (before !== null) dispose([before, gradient]);
    }
    const settled = { learningRate: settings.learningRate, gradientScale: 1 / normaliser, maxNorm };
    update = keep(optimizer.compute(adapter.parameters, gradientSum!, settled));
    const { lossSum, correctCount, gradNorm } = readOnce(losses, correct, update.squareSum);
    const loss = lossSum / normaliser;
    checkFinite(loss, gradNorm, optimizer.step + 1);
    const adopted = update;
    update = null;
    adapter.setParameters(optimizer.adopt(adopted));
    const metrics = last!.ownMetrics(figures);
    return { loss, accuracy: correctCount / normaliser, gradNorm, tokens, trainedTokens, metrics };
  } finally {
    dispose([gradientSum, losses, correct, update]);
  }
}

/** The only read of a step, which waits for the device: of each label its loss and whether it is right, and the gradient's norm. */
function readOnce(losses: readonly Tensor[], correct: readonly Tensor[], squareSum: Tensor) {
  const numbers = scope(() => toFloat32Array(concat([...losses, ...correct, squareSum], 0)));
  const labels = (numbers.length - 1) / 2;
  return {
    lossSum: sumOf(numbers.subarray(0, labels)),
    correctCount: sumOf(numbers.subarray(labels, -1)),
    gradNorm: Math.sqrt(numbers.at(-1)!),
  };
}

function checkFinite(loss: number, gradNorm: number, step: number): void {
  if (Number.isFinite(loss) && Number.isFinite(gradNorm)) return;
  const what = Number.isFinite(loss) ? `gradient norm (${gradNorm})` : `loss (${loss})`;
  throw new ProductError(
    'non_finite_loss',
    `The ${what} of step ${step} is not a finite number. Lower learning_rate, or check the rows. Nothing was published.`,
  );
}
