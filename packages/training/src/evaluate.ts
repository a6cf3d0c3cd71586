import type { Evaluation } from '@lorasmith/contracts';
import type { BatchSource } from './batches.js';
import type { BatchLoss, PassOptions } from './objectives/objective.js';
import type { Participant } from './shared-pass/pass-scheduler.js';
import { FORWARD_SHARE } from './turn.js';

/** Metrics over held-out examples, without dropout. @throws ProductError cancelled before a batch */
export async function evaluate(
  source: BatchSource,
  adapters: PassOptions['adapters'],
  batchSize: number,
  passes: Pick<Participant, 'turn'>,
): Promise<Evaluation> {
  const losses: BatchLoss[] = [];
  let tokens = 0;
  let trained = 0;
  for await (const batch of source.batches(inOrder(source.count, batchSize), { adapters, passes })) {
    losses.push(await passes.turn(FORWARD_SHARE * batch.computed, () => batch.loss({ adapters })));
    tokens += batch.tokens;
    trained += batch.labels;
  }
  return { ...source.metrics(losses), tokens, trained_tokens: trained };
}

/** The numbers from 0 on, in batches. */
export function inOrder(count: number, batchSize: number): number[][] {
  return Array.from({ length: Math.ceil(count / batchSize) }, (_, batch) => {
    const first = batch * batchSize;
    return Array.from({ length: Math.min(batchSize, count - first) }, (_, i) => first + i);
  });
}
