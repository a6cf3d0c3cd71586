import { type DestinationStream, type LevelWithSilent, type Logger, pino } from 'pino';

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

/** An API key. */
const API_KEY = /lsk_[0-9a-f]{24}_[A-Za-z0-9_-]*/g;
/** A token of the Hugging Face hub. */
const HUB_TOKEN = /\bhf_[A-Za-z0-9]{8,}/g;
/** The credentials in an address. */
const CREDENTIALS = /\b((?:rediss?|https?|s3):\/\/)[^\s/@"\\]*@/g;

/**
 * Removes secrets from a text for the log: an API key in an address or a name, the password in the address of Redis.
 */
export function withoutSecrets(text: string): string {
  return text.replaceAll(API_KEY, 'lsk_…').replaceAll(HUB_TOKEN, 'hf_…').replaceAll(CREDENTIALS, '$1…@');
}

/** A line up to this length is written as it is. */
const SHORT_LINE = 1_000;
const MAX_FIELD = 1_000;
/** A stack trace is longer than what a sender can choose, and is needed whole. */
const MAX_STACK = 8_000;
const MAX_ITEMS = 20;
const MAX_DEPTH = 6;
const MAX_LINE = 32_000;
/** Limits, for docs/limits.md. */
export const logLimits = {
  field: { value: MAX_FIELD, unit: 'characters', beyond: 'the field is cut' },
  line: { value: MAX_LINE, unit: 'characters', beyond: 'the line keeps its message alone' },
};

/** A log line whose fields are cut to lengths that do not fill a disk: a sender chooses its path, names and bodies. */
export function boundedLine(line: string): string {
  if (line.length <= SHORT_LINE) return line;
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch {
    return `${cut(line.trimEnd(), MAX_LINE)}\n`;
  }
  const text = JSON.stringify(bounded(entry, '', 0));
  return `${text.length <= MAX_LINE ? text : JSON.stringify(messageAlone(entry as Record<string, unknown>))}\n`;
}

function bounded(value: unknown, name: string, depth: number): unknown {
  if (typeof value === 'string') return cut(value, name === 'stack' ? MAX_STACK : MAX_FIELD);
  if (typeof value !== 'object' || value === null) return value;
  if (depth === MAX_DEPTH) return '…';
  if (Array.isArray(value)) {
    const items = value.slice(0, MAX_ITEMS).map((item) => bounded(item, '', depth + 1));
    return value.length > MAX_ITEMS ? [...items, `… ${value.length - MAX_ITEMS} more`] : items;
  }
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, bounded(field, key, depth + 1)]));
}

function messageAlone({ level, time, service, pid, request_id, msg }: Record<string, unknown>): object {
  return { level, time, service, pid, request_id, msg: cut(String(msg), MAX_FIELD), cut: true };
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}… (${text.length} characters)`;
}
