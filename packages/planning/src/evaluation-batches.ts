import type { JobSpec } from '@lorasmith/contracts';
import type { Examples } from './example-file/examples.js';
import { loadOf } from './objectives/objectives.js';

/**
 * The examples of each micro-batch of an evaluation, in their order: as many as a micro-batch of the training has, and more while
 * the pass is shorter than one that jobs share. It saves nothing for a backward pass, so it holds less than one that trains.
 * @param passTokens of a pass that jobs share
 */
export function* evaluationBatches(
  examples: Pick<Examples, 'kind' | 'count' | 'lengthOf'>,
  { objective, training }: Pick<JobSpec, 'objective'> & { training: Pick<JobSpec['training'], 'batch_size'> },
  passTokens: number,
): Generator<number[]> {
  const load = loadOf(examples, objective);
  let batch: number[] = [];
  let tokens = 0;
  for (let index = 0; index < examples.count; index++) {
    const own = load.tokensOf(examples.lengthOf(index));
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
