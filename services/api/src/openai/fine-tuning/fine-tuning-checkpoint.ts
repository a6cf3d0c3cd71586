import type { Checkpoint, FineTuningCheckpoint, Job } from '@lorasmith/contracts';
import { unixSeconds } from '../files/openai-file.js';
import { checkpointName } from '../models/fine-tuned-name.js';

/** A stored checkpoint as the OpenAI API has it. */
export function fineTuningCheckpointOf(checkpoint: Checkpoint, job: Job): FineTuningCheckpoint {
  const { step, train_loss, eval_loss, created_at: createdAt } = checkpoint;
  return {
    id: `${job.id}:ckpt-step-${step}`,
    object: 'fine_tuning.job.checkpoint',
    created_at: unixSeconds(createdAt),
    fine_tuning_job_id: job.id,
    fine_tuned_model_checkpoint: checkpointName(job, step),
    step_number: step,
    metrics: { step, train_loss, ...(eval_loss === null ? {} : { full_valid_loss: eval_loss }) },
  };
}
