import type { Logger } from 'pino';

export interface ShutdownOptions {
  logger: Logger;
  /** After so long the process ends without finishing, with exit code 1. */
  timeoutMs: number;
  /** Stops taking work, finishes what it can, closes connections. Called once. */
  close: () => Promise<void>;
}

/**
 * Ends the process in order on SIGTERM, on SIGINT, and when the parent that forked it is gone; at once on a second
 * SIGINT. An error that nobody caught ends it too, with exit code 1: what it left half-done is not known.
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
  // Ctrl-C reaches every process of a terminal, so a SIGTERM from whoever started this one may well follow it: only a
  // second Ctrl-C means that somebody does not want to wait.
  let interrupts = 0;
  process.on('SIGINT', () => {
    if (++interrupts > 1) process.exit(1);
    shutDown('SIGINT');
  });
  if (process.connected) process.once('disconnect', () => shutDown('the parent process is gone'));
  // It had one, which went while this process was starting.
  else if (process.send !== undefined) setImmediate(() => shutDown('the parent process is gone'));
  const onUncaught = (error: unknown) => {
    logger.fatal({ err: error }, 'an error that nobody caught');
    shutDown('an error that nobody caught', 1);
  };
  process.on('uncaughtException', onUncaught);
  process.on('unhandledRejection', onUncaught);
  return shutDown;
}
