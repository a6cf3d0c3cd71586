import type { HostileStack } from './hostile-stack.js';

/**
 * One hostile input. What came of it is a line of text, so that a table reads as one: `404 job_not_found` for a refusal,
 * `200` for what is harmless, only the code (`range_invalid`) where a reader was given a file.
 */
export interface HostileCase {
  /** What the input is. */
  name: string;
  /** What must come of it, to the letter. */
  outcome: string;
  /** Asks what everybody may ask, with a key or without. @defaultValue false */
  open?: boolean;
  send(stack: HostileStack): Promise<string>;
}

/** The cases of one kind. */
export interface HostileTable {
  kind: string;
  cases: HostileCase[];
}
