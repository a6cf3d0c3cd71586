import type { JobSpec } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { type Examples, maxTokensOf, type Plan, type RowOrder } from '@lorasmith/planning';
import { inOrder } from '../../evaluate.js';
import type { BatchExamples } from '../objective.js';
import { JudgedAnswers, partnersWithin } from './judged-answers.js';
import { JudgedPairs } from './judged-pairs.js';

/**
 * Gives examples of a run what judges their answers. Those of another objective stay as they are.
 * @param reference `[examples, referenceScores]`; null for a loss without one, and while it is computed
 */
export type JudgeExamples = (examples: Examples, reference: Float32Array | null) => BatchExamples;

export function judgeOf({
  spec,
  model,
  plan,
  rows,
}: {
  spec: JobSpec;
  model: ModelFolder;
  plan: Plan;
  rows: RowOrder;
}): JudgeExamples {
  return (examples, reference) => {
    switch (examples.kind) {
      case 'preference':
        return new JudgedPairs(examples, spec.objective!, reference);
      case 'labelled': {
        const { count } = examples;
        const steps = examples === plan.training ? stepsOfEpoch(rows, plan) : inOrder(count, count);
        const partners = partnersWithin(steps, count);
        const maxTokens = maxTokensOf({ spec, model });
        return new JudgedAnswers({ examples, settings: spec.objective!, partners, maxTokens, reference });
      }
      default:
        return examples;
    }
  };
}

/** The examples of each step of an epoch. */
function* stepsOfEpoch(rows: RowOrder, { steps }: Plan): Generator<number[]> {
  for (let step = 0; step < steps.perEpoch; step++) {
    yield rows.rowsOf(step).microBatches.flatMap((microBatch) => [...microBatch]);
  }
}
