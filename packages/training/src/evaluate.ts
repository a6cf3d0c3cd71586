import type { Evaluation } from '@lorasmith/contracts';
import type { BatchSource } from './batches.js';
import type { BatchLoss, PassOptions } from './objectives/objective.js';
import { yieldToEventLoop } from './stop.js';

/** Metrics over held-out examples, without dropout. */
export async function evaluate(
  source: BatchSource,
  adapters: PassOptions['adapters'],
  batchSize: number,
  signal: AbortSignal,
): Promise<Evaluation> {
  const losses: BatchLoss[] = [];
  let tokens = 0;
  for (let first = 0; first < source.count; first += batchSize) {
    const indices = Array.from({ length: Math.min(batchSize, source.count - first) }, (_, i) => first + i);
    const batch = source.batch(indices, source.longest);
    losses.push(batch.loss({ adapters }));
    tokens += batch.tokens;
    await yieldToEventLoop(signal);
  }
  return { ...source.metrics(losses), tokens };
}
