import { type CheckpointDescription, listCheckpoints } from '@lorasmith/checkpoints';
import type { Checkpoint, JobId } from '@lorasmith/contracts';

/** The checkpoints in a job's folder, newest first, as its record lists them. */
export async function keptCheckpoints(job: JobId, folder: string): Promise<Checkpoint[]> {
  const described = await listCheckpoints(folder);
  const best = bestOf(described);
  return described.map(({ step, bytes, savedAt, progress }, place) => ({
    object: 'checkpoint',
    job,
    step,
    epoch: progress.epoch,
    train_loss: progress.trainLoss,
    eval_loss: progress.evaluation?.loss ?? null,
    is_best: step === best?.step,
    is_last: place === 0,
    bytes,
    created_at: savedAt.toISOString(),
  }));
}

/** The earliest with the lowest loss; null where none was evaluated. */
function bestOf(described: CheckpointDescription[]): CheckpointDescription | null {
  let best: CheckpointDescription | null = null;
  for (const one of described) {
    const loss = one.progress.evaluation?.loss;
    // The list begins with the newest.
    if (loss !== undefined && loss <= (best?.progress.evaluation?.loss ?? Number.POSITIVE_INFINITY)) best = one;
  }
  return best;
}
