import type { QueuedSessionResult } from '@lorasmith/contracts';

/** The result of a worker that has opened a model. */
export const OPENED: QueuedSessionResult = {
  kind: 'opened',
  described: {
    base_model: { name: 'tiny', family: 'llama', weights_sha256: 'a', architecture_sha256: 'b', quantization: null },
    ...{ precision: 'float32', maxTokens: 8, vocabularySize: 9, parameters: 10, modules: ['lm_head'] },
  },
};
