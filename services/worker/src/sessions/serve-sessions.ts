import { pause } from '@lorasmith/concurrency';
import type { TrainingSessionServer } from '@lorasmith/queue';
import type { TrainerPool } from '../trainer/trainer-pool.js';
import { runSession, SESSION_TIMES, type SessionRunOptions } from './session-run.js';

export interface ServeSessionsOptions extends Omit<SessionRunOptions, 'pool' | 'isOtherWaiting' | 'times'> {
  server: TrainingSessionServer;
  pool: Pick<TrainerPool, 'generatableModel' | 'capacity' | 'lease' | 'onChange'>;
  /** @defaultValue those of {@link SESSION_TIMES} */
  times?: SessionRunOptions['times'];
}

/** The most models in training that a worker has in memory. */
const MODELS_AT_ONCE = 8;
/** The pause after an error of Redis. */
const PAUSE_MS = 1_000;
/** The time that a model of another base waits for another worker, before those here make way. */
const MAKE_WAY_MS = 5_000;

/**
 * Does the ops of models that their clients train, on the base model that the trainer has or, while it has no job, on any. They share trainer
 * and passes with jobs, and are parked when the trainer is wanted for another base.
 *
 * @returns parks all models, and takes no more
 */
export function serveSessions(options: ServeSessionsOptions): () => Promise<void> {
  const { server, pool, log, times = SESSION_TIMES } = options;
  const stopping = new AbortController();
  const open = new Set<Promise<void>>();
  const isOtherWaiting = (baseModel: string) => server.isOtherWaiting(baseModel, MAKE_WAY_MS);
  let wake = () => {};
  const endListening = pool.onChange(() => wake());

  const claim = async () => {
    const now = open.size < MODELS_AT_ONCE ? pool.generatableModel() : null;
    if (now === null) return null;
    const { baseModel } = now;
    // Those that have made way must not come back at once.
    const makesWay = baseModel !== null && pool.capacity()?.isIdle === true && (await isOtherWaiting(baseModel));
    return makesWay ? null : await server.claim(baseModel);
  };
  const look = async () => {
    const woken = new AbortController();
    wake = () => woken.abort();
    const notice = server.listen();
    try {
      await notice.ready;
      const claimed = await claim();
      if (claimed === null) return await notice.wait(times.lookMs, woken.signal);
      const { model } = claimed;
      const modelLog = log.child({ model: model.id, base_model: model.record.spec.base_model });
      const run: Promise<void> = runSession(
        claimed,
        { ...options, isOtherWaiting, times, log: modelLog },
        stopping.signal,
      )
        .catch((error: unknown) => modelLog.error({ err: error }, 'a model in training was left'))
        .finally(() => {
          open.delete(run);
          wake();
        });
      open.add(run);
    } finally {
      notice.close();
    }
  };
  const run = async () => {
    while (!stopping.signal.aborted) {
      await look().catch(async (error: unknown) => {
        log.warn({ err: error }, 'models in training could not be looked for');
        await pause(PAUSE_MS, stopping.signal);
      });
    }
  };
  void run();

  return async () => {
    endListening();
    stopping.abort();
    wake();
    await Promise.all(open);
    server.close();
  };
}
