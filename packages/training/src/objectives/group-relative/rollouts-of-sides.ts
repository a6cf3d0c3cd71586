import { type GroupRelativeObjective, MAX_ANSWER_ROUNDS } from '@lorasmith/contracts';
import { compileGrader } from '@lorasmith/graders';
import { type Examples, GradedRows } from '@lorasmith/planning';
import { type ObjectiveRun, ofKind } from '../trained-objective.js';
import { calculatedRewards, type RewardSource, webhookRewards } from './reward-source.js';
import { Rollouts } from './rollouts.js';

/** The rollouts of each side of a job. */
export interface RolloutsOfSides {
  /** @param examples those of one side of the plan */
  of(examples: Examples): Rollouts;
}

/** @throws ProductError `dataset_not_found`, `cancelled` */
export async function rolloutsOfSides(
  { options, plan, model, base: loaded, texts, id, passes }: ObjectiveRun,
  settings: GroupRelativeObjective,
): Promise<RolloutsOfSides> {
  const { spec, rowsFile, validation = null, checkpointFolder, signal, gradeByWebhook, onEvent } = options;
  const base = ofKind(loaded, 'decoder');
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
