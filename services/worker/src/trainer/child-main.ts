import { openExampleStore } from '@lorasmith/planning';
import { BaseModelCache, cardFailure, configureKernels, publishCheckpoint, train } from '@lorasmith/training';
import { avoidedKernels } from './avoided-kernels.js';
import { endWithoutGpu } from './end-without-gpu.js';
import { loadingLog } from './loading-log.js';
import { serveTrainer } from './serve-trainer.js';

endWithoutGpu();
configureKernels('fused', { avoid: avoidedKernels() });
const cache = new BaseModelCache();
const onLoading = loadingLog(console.log);

const execute: Parameters<typeof serveTrainer>[0] = async (order, { signal, recycle, onEvent }) => {
  switch (order.kind) {
    case 'train': {
      const { spec, dataset, machine, tokens, paths } = order;
      const examples = await openExampleStore(tokens);
      const callbacks = { signal, pause: recycle, onEvent, onLoading };
      return await train({ spec, dataset, machine, examples, ...paths, ...callbacks, cache });
    }
    case 'publish-checkpoint': {
      const { spec, checkpoint, paths } = order;
      const { folder: checkpointFolder, step } = checkpoint;
      return await publishCheckpoint({ spec, checkpointFolder, step, ...paths, signal, onEvent, onLoading, cache });
    }
  }
};

// Once the card has failed, every further call of the driver fails in this process.
serveTrainer(execute, { isSpent: () => cardFailure() !== null });
