import type { Evaluation } from '@lorasmith/contracts';
import type { BatchSource } from './batches.js';
import { breathe } from './breathe.js';

/** Mean loss over held-out examples, without dropout. */
export async function evaluate(source: BatchSource, batchSize: number, signal: AbortSignal): Promise<Evaluation> {
  let lossSum = 0;
  let labels = 0;
  let tokens = 0;
  let correct: number | null = 0;
  for (let first = 0; first < source.count; first += batchSize) {
    const indices = Array.from({ length: Math.min(batchSize, source.count - first) }, (_, i) => first + i);
    const batch = source.batch(indices, source.longest);
    const result = batch.loss();
    lossSum += result.lossSum;
    labels += result.labels;
    tokens += batch.tokens;
    correct = correct === null || result.correct === null ? null : correct + result.correct;
    await breathe(signal);
  }
  const loss = lossSum / labels;
  const perplexity = Math.exp(loss);
  return {
    loss,
    perplexity: correct === null && Number.isFinite(perplexity) ? perplexity : null,
    accuracy: correct === null ? null : correct / labels,
    tokens,
  };
}
