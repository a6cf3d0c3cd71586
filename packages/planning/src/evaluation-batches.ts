import type { JobSpec } from '@lorasmith/contracts';
import type { Examples } from './objectives/examples.js';

/**
 * The examples of each micro-batch of an evaluation, in their order: as many as a micro-batch of the training has, and more while
 * the pass is shorter than one that jobs share. It saves nothing for a backward pass, so it holds less than one that trains.
 * @param passTokens of a pass that jobs share
 */
export function* evaluationBatches(
  examples: Pick<Examples, 'count' | 'lengthOf'>,
  { objective, training }: Pick<JobSpec, 'objective'> & { training: Pick<JobSpec['training'], 'batch_size'> },
  passTokens: number,
): Generator<number[]> {
  let batch: number[] = [];
  let tokens = 0;
  for (let index = 0; index < examples.count; index++) {
    const own = tokensOf(examples, index, objective);
    if (batch.length >= training.batch_size && tokens + own > passTokens) {
      yield batch;
      batch = [];
      tokens = 0;
    }
    batch.push(index);
    tokens += own;
  }
  if (batch.length > 0) yield batch;
}

/** Tokens of all sequences of an example. A sampled answer is taken to be as long as it may be. */
export function tokensOf(examples: Pick<Examples, 'lengthOf'>, index: number, objective: JobSpec['objective']): number {
  const length = examples.lengthOf(index);
  if (objective?.kind !== 'group-relative') return length;
  return objective.group_size * (length + objective.max_completion_tokens);
}
