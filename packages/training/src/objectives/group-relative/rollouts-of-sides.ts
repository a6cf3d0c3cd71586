import { MAX_ANSWER_ROUNDS } from '@lorasmith/contracts';
import { compileGrader } from '@lorasmith/graders';
import type { ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import type { LoadedModel } from '@lorasmith/models';
import { GradedRows, groupsOf, type Plan } from '@lorasmith/planning';
import type { Participant } from '../../shared-pass/pass-scheduler.js';
import type { TrainOptions } from '../../train-options.js';
import { calculatedRewards, type RewardSource, webhookRewards } from './reward-source.js';
import { Rollouts } from './rollouts.js';

/** The rollouts of each side of a job. */
export interface RolloutsOfSides {
  /** @param examples those of one side of the plan */
  of(examples: Plan['training']): Rollouts;
}

/** @returns null for a job that samples no answers. @throws ProductError `dataset_not_found`, `cancelled` */
export async function rolloutsOfSides(
  { spec, rowsFile, validation = null, checkpointFolder, signal, gradeByWebhook, onEvent }: TrainOptions,
  run: {
    plan: Plan;
    model: ModelFolder;
    base: LoadedModel;
    texts: ModelTexts;
    id: string;
    passes: Pick<Participant, 'beside'>;
  },
): Promise<RolloutsOfSides | null> {
  const settings = groupsOf(spec);
  const { plan, model, base, texts, id, passes } = run;
  if (settings === null || base.kind !== 'decoder') return null;
  const text = await texts.of(model.path);
  const grader = compileGrader(settings.grader);
  const rewardsWith = (rows: GradedRows): RewardSource => {
    if (grader.kind === 'here') return calculatedRewards(grader, { text, rows });
    if (gradeByWebhook === undefined) throw new Error('a job with a webhook, and nothing that calls it');
    return webhookRewards(gradeByWebhook, { text, rows, signal });
  };
  const readBefore = plan.graded;
  const rows = readBefore.training ?? (await GradedRows.read(rowsFile, signal));
  const ofValidation = validation && (readBefore.validation ?? (await GradedRows.read(validation.rowsFile, signal)));
  const { seed, batch_size: batchSize, gradient_accumulation_steps: accumulation } = spec.training;
  const rolloutsOn = (ofSide: GradedRows) =>
    new Rollouts({
      base,
      text,
      settings,
      rewards: rewardsWith(ofSide),
      seed,
      promptsAtOnce: batchSize * accumulation,
      kept: { folder: checkpointFolder, run: id },
      passes,
      shownEvery: Math.ceil(plan.steps.total / settings.updates_per_batch / MAX_ANSWER_ROUNDS),
      onAnswers: (data) => onEvent({ type: 'answers-graded', data }),
    });
  const training = rolloutsOn(rows);
  const held = ofValidation === null ? training : rolloutsOn(ofValidation);
  return { of: (examples) => (examples === plan.validation ? held : training) };
}
