import { setMaxListeners } from 'node:events';
import type { Logger } from 'pino';

export interface ShutdownOptions {
  logger: Logger;
  /** The time after which the process exits with code 1, without waiting for the work to finish. */
  timeoutMs: number;
  /** Stops accepting work, finishes running work where possible, and closes connections. Called once. */
  close: () => Promise<void>;
}

/**
 * Shuts the process down gracefully on SIGTERM, on SIGINT, and when the parent that forked it has ended; at once on a
 * second SIGINT. An uncaught error also shuts it down, with exit code 1, because its state is then unknown.
 *
 * @returns a function that starts the same shutdown
 */
export function shutDownInOrder({
  logger,
  timeoutMs,
  close,
}: ShutdownOptions): (reason: string, code?: number) => void {
  let closing = false;
  const shutDown = (reason: string, code = 0) => {
    if (closing) return;
    closing = true;
    logger.info({ reason }, 'shutting down');
    setTimeout(() => {
      logger.error({ timeout_ms: timeoutMs }, 'shutting down took too long');
      process.exit(1);
    }, timeoutMs).unref();
    close().then(
      () => {
        logger.info('shut down');
        process.exit(code);
      },
      (error) => {
        logger.error({ err: error }, 'shutting down failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => shutDown('SIGTERM'));
  // Ctrl-C reaches every process of a terminal, and the parent may send a SIGTERM too. Only a second Ctrl-C means that the
  // user does not want to wait.
  let interrupts = 0;
  process.on('SIGINT', () => {
    if (++interrupts > 1) process.exit(1);
    shutDown('SIGINT');
  });
  if (process.connected) process.once('disconnect', () => shutDown('the parent process has ended'));
  // The parent ended while this process was starting.
  else if (process.send !== undefined) setImmediate(() => shutDown('the parent process has ended'));
  const onUncaught = (error: unknown) => {
    logger.fatal({ err: error }, 'uncaught error');
    shutDown('uncaught error', 1);
  };
  process.on('uncaughtException', onUncaught);
  process.on('unhandledRejection', onUncaught);
  return shutDown;
}

export interface LinkedSignal {
  signal: AbortSignal;
  /** Lets go of the sources: the signal is aborted no more. */
  unlink(): void;
}

/**
 * A signal that is aborted with the first of its sources, and with its reason. Unlike one of `AbortSignal.any`, it leaves nothing in a source that
 * lives as long as the process: on Node 20 such a source never forgets what was made of it.
 *
 * All links end when a source is aborted. Where none may ever be, call `unlink`.
 */
export function linkSignals(sources: readonly AbortSignal[]): LinkedSignal {
  const controller = new AbortController();
  const unlinks = sources.map((source) => {
    const follow = () => {
      controller.abort(source.reason);
      unlink();
    };
    // Any number of requests may follow the signal of a process.
    setMaxListeners(0, source);
    source.addEventListener('abort', follow);
    return () => source.removeEventListener('abort', follow);
  });
  const unlink = () => {
    for (const one of unlinks) one();
  };
  const aborted = sources.find((source) => source.aborted);
  if (aborted !== undefined) {
    controller.abort(aborted.reason);
    unlink();
  }
  return { signal: controller.signal, unlink };
}
