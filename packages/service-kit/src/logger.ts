import { type DestinationStream, type LevelWithSilent, type Logger, pino } from 'pino';

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
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
