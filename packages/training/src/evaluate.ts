import type { Evaluation } from '@lorasmith/contracts';
import type { BatchSource } from './batches.js';
import type { BatchLoss, PassOptions } from './objectives/objective.js';
import type { Participant } from './shared-pass/pass-scheduler.js';

/** The cost of a forward pass, as a share of that of a pass that trains. */
const FORWARD_SHARE = 0.5;

/** Metrics over held-out examples, without dropout. @throws ProductError cancelled before a batch */
export async function evaluate(
  source: BatchSource,
  adapters: PassOptions['adapters'],
  batchSize: number,
  passes: Pick<Participant, 'turn'>,
): Promise<Evaluation> {
  const losses: BatchLoss[] = [];
  let tokens = 0;
  for (let first = 0; first < source.count; first += batchSize) {
    const indices = Array.from({ length: Math.min(batchSize, source.count - first) }, (_, i) => first + i);
    const batch = source.batch(indices);
    losses.push(await passes.turn(FORWARD_SHARE * batch.tokens, () => batch.loss({ adapters })));
    tokens += batch.tokens;
  }
  const trained = losses.reduce((sum, { normaliser }) => sum + normaliser, 0);
  return { ...source.metrics(losses), tokens, trained_tokens: trained };
}
