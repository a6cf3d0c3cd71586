import { type DestinationStream, type LevelWithSilent, type Logger, pino } from 'pino';
import { boundedLine } from './bounded-line.js';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** Name of the service, in every line. */
  service: string;
  level: LevelWithSilent;
  /** @defaultValue standard output */
  destination?: DestinationStream;
}

/** A logger that writes one JSON object per line, of bounded length and without secrets. */
export function createLogger({ service, level, destination }: LoggerOptions): Logger {
  const options = {
    level,
    base: { service, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: ['req.headers.authorization', 'headers.authorization'],
    // Secrets first: half of a key would not be known as one.
    hooks: { streamWrite: (line: string) => boundedLine(withoutSecrets(line)) },
  };
  return pino(options, destination ?? standardOutput());
}

/** Limit for buffered lines. Further lines are dropped, so that a full disk does not fill the memory too. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

/**
 * Standard output for log lines. A closed pipe or a full disk must neither end the process nor prevent its exit: pino's own
 * destination would retry the last lines forever when the process exits.
 */
function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: true, maxLength: MAX_BUFFERED_BYTES });
  output.on('error', () => {});
  // Each line is written when it is logged. Retrying failed lines at the exit would block it.
  output.flushSync = () => {};
  return output;
}

/** An API key, and the credentials in an address. */
const API_KEY = /lsk_[0-9a-f]{24}_[A-Za-z0-9_-]*/g;
const CREDENTIALS = /\b((?:rediss?|https?|s3):\/\/)[^\s/@"\\]*@/g;

/**
 * Removes secrets from a text for the log: an API key in an address or a name, the password in the address of Redis.
 */
export function withoutSecrets(text: string): string {
  return text.replaceAll(API_KEY, 'lsk_…').replaceAll(CREDENTIALS, '$1…@');
}
