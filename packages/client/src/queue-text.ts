import type { QueueReason } from '@lorasmith/contracts';

const TEXTS: Readonly<Record<QueueReason, string>> = {
  'no-worker': 'no worker runs',
  'worker-starting': 'the worker is still starting',
  'worker-self-test':
    'the worker compares its engine on the GPU with the CPU, which takes a minute, or several on a slow processor',
  'worker-measuring': 'the worker measures its machine, about 30 s at a first start',
  'workers-busy': 'all workers are busy with other jobs',
};

/** The reason why a job waits, as a clause. A later version of the service may know further reasons. */
export function queueReasonText(reason: QueueReason): string {
  return TEXTS[reason] ?? reason;
}
