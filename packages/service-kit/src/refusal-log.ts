import type { ErrorCode } from '@lorasmith/contracts';
import type { FastifyBaseLogger } from 'fastify';

/** The lines of one code and sender within {@link WINDOW_MS}. Further ones are counted. */
const MAX_LINES = 50;
const WINDOW_MS = 60_000;
/** Limits, for docs/limits.md. */
export const refusalLogLimits = {
  lines: { value: MAX_LINES, unit: 'lines a minute', beyond: 'counted, in one line at the end of the minute' },
};

/**
 * Limits the lines about requests that fail: who sends wrong keys as fast as it can must not fill the disk. What is not
 * written is counted, in one line for each code and sender.
 */
export class RefusalLog {
  readonly #log: FastifyBaseLogger;
  readonly #seen = new Map<string, { code: ErrorCode; sender: string | null; count: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(log: FastifyBaseLogger) {
    this.#log = log;
  }

  /**
   * Counts a failed request.
   *
   * @param sender - the owner of its key; null: none, or it was refused before that was known
   * @returns true if a line is to be written for it
   */
  count(code: ErrorCode, sender: string | null): boolean {
    const kind = `${code} ${sender}`;
    const seen = this.#seen.get(kind) ?? { code, sender, count: 0 };
    seen.count += 1;
    this.#seen.set(kind, seen);
    this.#timer ??= setTimeout(() => this.close(), WINDOW_MS).unref();
    return seen.count <= MAX_LINES;
  }

  /** Writes the counts, and begins from zero. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const { code, sender, count } of this.#seen.values()) {
      if (count <= MAX_LINES) continue;
      const further = { code, key: sender, count: count - MAX_LINES };
      this.#log.warn(further, `${count - MAX_LINES} further requests ended with ${code} within a minute`);
    }
    this.#seen.clear();
  }
}
