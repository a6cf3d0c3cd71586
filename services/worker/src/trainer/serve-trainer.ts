import { type JobFailure, type NewJobEvent, ProductError, type TrainingOutcome } from '@lorasmith/contracts';
import { asStorageError } from '@lorasmith/storage';
import type { StopReason, TrainerOrder, TrainerReply, TrainerRequest } from './messages.js';

const HEARTBEAT_MS = 5_000;
/** How TensorFlow words that an allocation failed. */
const OUT_OF_MEMORY = /OOM when allocating|RESOURCE_EXHAUSTED|Array buffer allocation failed/i;

export interface TrainerProgram {
  train: (
    order: TrainerOrder,
    callbacks: { signal: AbortSignal; recycle: AbortSignal; onEvent: (event: NewJobEvent) => void },
  ) => Promise<TrainingOutcome>;
}

/** Turns this process into a trainer: takes orders from its parent until that goes away. */
export function serveTrainer({ train }: TrainerProgram): void {
  let current: { run: number; stopping: AbortController; recycling: AbortController } | undefined;

  const reply = (message: TrainerReply) => {
    // Without a parent nobody listens, and `disconnect` ends this process.
    if (process.connected) process.send?.(message, undefined, {}, () => {});
  };

  const take = async (run: number, order: TrainerOrder) => {
    const stopping = new AbortController();
    const recycling = new AbortController();
    current = { run, stopping, recycling };
    try {
      const outcome = await train(order, {
        signal: stopping.signal,
        recycle: recycling.signal,
        onEvent: (event) => reply({ type: 'event', run, event }),
      });
      reply({ type: 'finished', run, outcome });
    } catch (error) {
      const wasTold = error instanceof ProductError && error.code === 'cancelled';
      if (wasTold && stopping.signal.aborted) {
        reply({ type: 'stopped', run });
      } else if (wasTold && recycling.signal.aborted) {
        reply({ type: 'recycled', run });
      } else {
        const known = asStorageError(error);
        // The stack is for whoever runs the service; the user gets the sentence.
        if (!(known instanceof ProductError)) console.error(error);
        reply({ type: 'failed', run, failure: failureOf(known) });
      }
    } finally {
      current = undefined;
    }
  };

  process.on('message', (request: TrainerRequest) => {
    if (request.type === 'train') void take(request.run, request.order);
    else if (current?.run !== request.run) return;
    else if (request.type === 'recycle') current.recycling.abort();
    else current.stopping.abort(trainingStop(request.reason));
  });
  process.on('disconnect', () => process.exit(0));
  // A terminal or a container sends these to every process; the parent decides what becomes of a training.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  setInterval(() => reply({ type: 'heartbeat' }), HEARTBEAT_MS).unref();
}

/** For the training, a job that has had its time is one whose trainer shuts down: it saves a checkpoint. */
function trainingStop(reason: StopReason): Exclude<StopReason, 'time-limit'> {
  return reason === 'time-limit' ? 'shutdown' : reason;
}

function failureOf(error: unknown): JobFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, details: error.details };
  const text = error instanceof Error ? error.message : String(error);
  if (OUT_OF_MEMORY.test(text)) {
    return {
      code: 'out_of_memory',
      message:
        'The engine could not get the memory it needs. Use a smaller batch_size (with more gradient_accumulation_steps) ' +
        'or a smaller max_seq_length.',
      details: [],
    };
  }
  return { code: 'internal_error', message: `Training failed: ${text.slice(0, 500)}`, details: [] };
}
