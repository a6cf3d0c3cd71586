import { openExampleStore } from '@lorasmith/planning';
import { BaseModelCache, configureKernels, publishCheckpoint, train } from '@lorasmith/training';
import { endWithoutGpu } from './end-without-gpu.js';
import { loadingLog } from './loading-log.js';
import { serveTrainer } from './serve-trainer.js';

endWithoutGpu();
configureKernels('fused');
const cache = new BaseModelCache();
const onLoading = loadingLog(console.log);

serveTrainer(async (order, { signal, recycle, onEvent }) => {
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
});
