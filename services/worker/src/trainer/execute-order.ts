import type { TrainingOutcome } from '@lorasmith/contracts';
import { ModelTexts, WeightDigests } from '@lorasmith/model-folder';
import { openExampleStore } from '@lorasmith/planning';
import { BaseModelCache, cardFailure, configureKernels, publishCheckpoint, train } from '@lorasmith/training';
import { avoidedKernels } from './avoided-kernels.js';
import { endWithoutGpu } from './end-without-gpu.js';
import { loadingLog } from './loading-log.js';
import type { TrainerOrder } from './messages.js';
import type { TrainerRunOptions } from './trainer-process.js';

// Importing this file loads the engine, and on a GPU opens the card.

endWithoutGpu();
configureKernels('fused', { avoid: avoidedKernels() });
const cache = new BaseModelCache();
const texts = new ModelTexts();
const onLoading = loadingLog(console.log);

/** Does one order. @throws as `train` and `publishCheckpoint` */
export async function executeOrder(
  order: TrainerOrder,
  { signal, recycle, onEvent }: TrainerRunOptions,
): Promise<TrainingOutcome> {
  const digests = new WeightDigests(order.weightDigests);
  switch (order.kind) {
    case 'train': {
      const { spec, dataset, machine, tokens, paths } = order;
      const examples = await openExampleStore(tokens);
      const callbacks = { signal, pause: recycle, onEvent, onLoading };
      return await train({ spec, dataset, machine, examples, ...paths, ...callbacks, cache, digests, texts });
    }
    case 'publish-checkpoint': {
      const { spec, checkpoint, paths } = order;
      const { folder: checkpointFolder, step } = checkpoint;
      const callbacks = { signal, onEvent, onLoading };
      return await publishCheckpoint({ spec, checkpointFolder, step, ...paths, ...callbacks, cache, digests, texts });
    }
  }
}

/** Whether nothing can be computed in this process any more: once its card has failed, every further call of the driver fails. */
export function isSpent(): boolean {
  return cardFailure() !== null;
}
