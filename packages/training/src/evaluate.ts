import type { Evaluation } from '@lorasmith/contracts';
import type { BatchSource } from './batches.js';
import type { BatchLoss, PassOptions } from './objectives/objective.js';
import type { Participant } from './shared-pass/pass-scheduler.js';
import { FORWARD_SHARE } from './turn.js';

/** Held-out examples, and those of each micro-batch. */
export interface HeldOut {
  source: BatchSource;
  microBatches: readonly number[][];
}

/** Metrics over held-out examples, without dropout. @throws ProductError cancelled before a batch */
export async function evaluate(
  { source, microBatches }: HeldOut,
  adapters: PassOptions['adapters'],
  passes: Pick<Participant, 'turn'>,
): Promise<Evaluation> {
  const losses: BatchLoss[] = [];
  let tokens = 0;
  let trained = 0;
  for await (const batch of source.batches(microBatches, { adapters, passes })) {
    losses.push(await passes.turn(FORWARD_SHARE * batch.computed, () => batch.loss({ adapters })));
    tokens += batch.tokens;
    trained += batch.labels;
  }
  return { ...source.metrics(losses), tokens, trained_tokens: trained };
}
