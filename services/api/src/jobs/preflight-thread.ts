import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { openBaseModel, WEIGHT_DIGESTS_FOLDER, WeightDigests } from '@lorasmith/model-folder';
import { type ExampleStoreOptions, openExampleStore, planJob } from '@lorasmith/planning';
import type { PreflightAnswer, PreflightTask } from './preflight.js';

/** Runs in a worker thread: plans the job as its trainer will, and returns the report. */
export default async function preflight(
  task: PreflightTask & { tokens: ExampleStoreOptions },
): Promise<PreflightAnswer> {
  try {
    const model = await openBaseModel(task.modelsDir, task.spec.base_model);
    const { spec, dataset, rowsFile, initial, machine, tokens } = task;
    const examples = await openExampleStore(tokens);
    // Only where it is remembered: the trainer compares it, too, once it has read the weights.
    const digests = new WeightDigests(join(tokens.dataDir, WEIGHT_DIGESTS_FOLDER));
    const weightsSha256 = initial === null ? null : await digests.known(model);
    const plan = await planJob({ spec, model, dataset, rowsFile, examples, initial, weightsSha256, machine });
    await plan.close();
    return { report: plan.report };
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    const { code, message, param, details } = error;
    return { error: { code, message, param, details } };
  }
}
