import { openExampleStore } from '@lorasmith/planning';
import { BaseModelCache, configureKernels, publishCheckpoint, train } from '@lorasmith/training';
import { endWithoutGpu } from './end-without-gpu.js';
import { loadingLog } from './loading-log.js';
import { serveTrainer } from './serve-trainer.js';

endWithoutGpu();
configureKernels('fused');
const cache = new BaseModelCache();
const onLoading = loadingLog(console.log);

serveTrainer({
  train: async (order, { signal, recycle, onEvent }) => {
    if ('checkpoint' in order) {
      const { spec, checkpoint, paths } = order;
      const { folder: checkpointFolder, step } = checkpoint;
      return await publishCheckpoint({ spec, checkpointFolder, step, ...paths, signal, onEvent, onLoading, cache });
    }
    const { spec, dataset, machine, tokens, paths } = order;
    const examples = await openExampleStore(tokens);
    return await train({
      spec,
      dataset,
      machine,
      examples,
      ...paths,
      signal,
      pause: recycle,
      onEvent,
      onLoading,
      cache,
    });
  },
});
