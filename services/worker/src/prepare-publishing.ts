import { type CheckpointReference, specOf } from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/job-store';
import { openBaseModel } from '@lorasmith/model-folder';
import type { Prepared, TrainingSources } from './prepare-training.js';
import type { PublishOrder } from './trainer/messages.js';

/**
 * Has all on this host that making an adapter of a checkpoint needs.
 * @throws ProductError `model_not_found` and the other codes of a base model
 */
export async function preparePublishing(
  { models, folders }: Pick<TrainingSources, 'models' | 'folders'>,
  attempt: JobAttempt,
  { job: trained, step }: CheckpointReference,
): Promise<Prepared<PublishOrder>> {
  const spec = specOf(attempt.job);
  const source = await models.hold(spec.base_model);
  const release = () => source.release();
  try {
    const model = await openBaseModel(source.modelsDir, spec.base_model);
    const checkpoint = { folder: await folders.checkpointsOf(trained), step };
    const { outputFolder } = await folders.prepare(attempt);
    const order = { job: attempt.job.id, spec, checkpoint, paths: { modelFolder: model.path, outputFolder } };
    return { order, release };
  } catch (error) {
    release();
    throw error;
  }
}
