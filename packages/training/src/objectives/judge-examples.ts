import type { JobSpec, PreferenceObjective } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { LoadedModel, RowsAlike } from '@lorasmith/models';
import { type Examples, groupsOf, maxTokensOf, type Plan, type RowOrder } from '@lorasmith/planning';
import type { RolloutsOfSides } from './group-relative/rollouts-of-sides.js';
import { SampledGroups } from './group-relative/sampled-groups.js';
import { TokenRows } from './next-token/token-rows.js';
import type { BatchExamples } from './objective.js';
import { JudgedAnswers, partnersWithin } from './preference/judged-answers.js';
import { JudgedPairs } from './preference/judged-pairs.js';

/**
 * Gives examples of a run what their batches need: what judges or samples answers, and which rows may share tokens.
 * @param reference `[examples, referenceScores]`; null for a loss without one, and while it is computed
 */
export type JudgeExamples = (examples: Examples, reference: Float32Array | null) => BatchExamples;

export function judgeOf({
  spec,
  model,
  base,
  plan,
  rows,
  rollouts,
}: {
  spec: JobSpec;
  model: ModelFolder;
  base: LoadedModel;
  plan: Plan;
  rows: RowOrder;
  /** Null for an objective that samples no answers. */
  rollouts: RolloutsOfSides | null;
}): JudgeExamples {
  // With dropout, each row has its own.
  const mayShare = base.kind === 'decoder' && spec.lora.dropout === 0;
  const alike: RowsAlike = (length, other) => mayShare && base.hasSameRope(length, other);
  return (examples, reference) => {
    switch (examples.kind) {
      case 'next-token':
        return new TokenRows(examples, alike);
      case 'preference':
        return new JudgedPairs({ examples, settings: preferences(spec), reference, alike });
      case 'labelled': {
        const { count } = examples;
        const steps = examples === plan.training ? stepsOfEpoch(rows, plan) : [[...Array(count).keys()]];
        const partners = partnersWithin(steps, count);
        const maxTokens = maxTokensOf({ spec, model });
        return new JudgedAnswers({ examples, settings: preferences(spec), partners, maxTokens, reference, alike });
      }
      case 'group-relative':
        return new SampledGroups({ examples, settings: groupsOf(spec)!, source: rollouts!.of(examples), alike });
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
