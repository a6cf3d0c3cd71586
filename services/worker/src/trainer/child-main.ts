import { BaseModelCache, train } from '@lorasmith/training';
import { serveTrainer } from './serve-trainer.js';

const cache = new BaseModelCache();

serveTrainer({
  train: ({ spec, dataset, paths }, { signal, onEvent }) => train({ spec, dataset, ...paths, signal, onEvent, cache }),
});
