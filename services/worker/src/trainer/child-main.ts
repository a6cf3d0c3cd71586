import { BaseModelCache, train, useFusedOps } from '@lorasmith/training';
import { serveTrainer } from './serve-trainer.js';

useFusedOps();
const cache = new BaseModelCache();

serveTrainer({
  train: ({ spec, dataset, machine, paths }, { signal, onEvent }) =>
    train({ spec, dataset, machine, ...paths, signal, onEvent, cache }),
});
