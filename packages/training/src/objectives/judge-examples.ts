import type { JobSpec, PreferenceObjective } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { type Examples, groupsOf, maxTokensOf, type Plan, type RowOrder } from '@lorasmith/planning';
import { inOrder } from '../evaluate.js';
import type { RolloutsOfSides } from './group-relative/rollouts-of-sides.js';
import { SampledGroups } from './group-relative/sampled-groups.js';
import type { BatchExamples } from './objective.js';
import { JudgedAnswers, partnersWithin } from './preference/judged-answers.js';
import { JudgedPairs } from './preference/judged-pairs.js';

/**
 * Gives examples of a run what judges or samples their answers. Those of another objective stay as they are.
 * @param reference `[examples, referenceScores]`; null for a loss without one, and while it is computed
 */
export type JudgeExamples = (examples: Examples, reference: Float32Array | null) => BatchExamples;

export function judgeOf({
  spec,
  model,
  plan,
  rows,
  rollouts,
}: {
  spec: JobSpec;
  model: ModelFolder;
  plan: Plan;
  rows: RowOrder;
  /** Null for an objective that samples no answers. */
  rollouts: RolloutsOfSides | null;
}): JudgeExamples {
  return (examples, reference) => {
    switch (examples.kind) {
      case 'preference':
        return new JudgedPairs(examples, preferences(spec), reference);
      case 'labelled': {
        const { count } = examples;
        const steps = examples === plan.training ? stepsOfEpoch(rows, plan) : inOrder(count, count);
        const partners = partnersWithin(steps, count);
        const maxTokens = maxTokensOf({ spec, model });
        return new JudgedAnswers({ examples, settings: preferences(spec), partners, maxTokens, reference });
      }
      case 'group-relative':
        return new SampledGroups(examples, groupsOf(spec)!, rollouts!.of(examples));
      default:
        return examples;
    }
  };
}

/** The settings of a job on preferences. */
function preferences({ objective }: JobSpec): PreferenceObjective {
  if (objective?.kind !== 'preference') throw new Error('examples of preferences without their objective');
  return objective;
}

/** The examples of each step of an epoch. */
function* stepsOfEpoch(rows: RowOrder, { steps }: Plan): Generator<number[]> {
  for (let step = 0; step < steps.perEpoch; step++) {
    yield rows.rowsOf(step).microBatches.flatMap((microBatch) => [...microBatch]);
  }
}
