import { type DestinationStream, type LevelWithSilent, type Logger, pino } from 'pino';
import { withoutSecrets } from './without-secrets.js';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** Name of the service, in every line. */
  service: string;
  level: LevelWithSilent;
  /** @defaultValue standard output */
  destination?: DestinationStream;
}

/** A logger that writes one JSON object a line. */
export function createLogger({ service, level, destination }: LoggerOptions): Logger {
  const options = {
    level,
    base: { service, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: ['req.headers.authorization', 'headers.authorization'],
    hooks: { streamWrite: withoutSecrets },
  };
  return pino(options, destination ?? standardOutput());
}

/** Lines that could not be written are kept up to here, then left out: a full disk must not fill the memory, too. */
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

/**
 * Standard output as a place for lines. That nobody reads them any more, or that the disk they go to is full, is no
 * reason to end, nor to stay: pino's own destination tries the last lines again for ever when the process exits.
 */
function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: true, maxLength: MAX_KEPT_BYTES });
  output.on('error', () => {});
  // Each line is written when it is logged; what could not be written then would hold up the exit.
  output.flushSync = () => {};
  return output;
}
