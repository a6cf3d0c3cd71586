import path from 'node:path';
import type { JobId } from '@lorasmith/contracts';
import type { TrainOrder } from '../src/trainer/messages.js';
import { aJobSpec, DATASET } from './a-job-spec.js';

/** An order to train for a trainer that reads no data; `folder` is the folder of everything in it. */
export function aTrainOrder(folder: string, job: JobId, behaviour: string, baseModel = 'one'): TrainOrder {
  return {
    kind: 'train',
    job,
    spec: aJobSpec(behaviour, { base_model: baseModel }),
    dataset: { id: DATASET } as never,
    validation: null,
    machine: null,
    tokens: { dataDir: '/nowhere', maxBytes: 0 },
    weightDigests: '/nowhere',
    share: { key: '', keyWeight: 1, jobWeight: 1 },
    rungStep: null,
    paths: {
      modelFolder: folder,
      rowsFile: path.join(folder, 'rows.jsonl'),
      checkpointFolder: folder,
      outputFolder: folder,
      initialAdapterFolder: null,
    },
  };
}
