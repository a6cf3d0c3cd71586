import { openExampleStore } from '@lorasmith/planning';
import { BaseModelCache, engine, publishCheckpoint, train, useFusedOps } from '@lorasmith/training';
import { loadingLog } from './loading-log.js';
import { serveTrainer } from './serve-trainer.js';

// The GPU was there when the worker started; without a word TensorFlow would go on with the CPU.
if (process.argv[2] === 'gpu' && !engine.onGpu) throw new Error('The engine no longer sees the GPU.');

useFusedOps();
const cache = new BaseModelCache();
const onLoading = loadingLog(console.log);

serveTrainer({
  train: async (order, { signal, onEvent }) => {
    if ('checkpoint' in order) {
      const { spec, checkpoint, paths } = order;
      const { folder: checkpointFolder, step } = checkpoint;
      return await publishCheckpoint({ spec, checkpointFolder, step, ...paths, signal, onEvent, onLoading, cache });
    }
    const { spec, dataset, machine, tokens, paths } = order;
    const examples = await openExampleStore(tokens);
    return await train({ spec, dataset, machine, examples, ...paths, signal, onEvent, onLoading, cache });
  },
});
