import type { HostileStack } from './hostile-stack.js';

/**
 * One hostile input. Its outcome is a short text: `404 job_not_found` for a refusal, `200` for a harmless request, and only
 * the code (`range_invalid`) for a file that a reader refuses.
 */
export interface HostileCase {
  /** Describes the input. */
  name: string;
  /** The expected outcome. */
  outcome: string;
  /** True if the request is allowed without an API key. @defaultValue false */
  open?: boolean;
  send(stack: HostileStack): Promise<string>;
}

/** The cases of one kind. */
export interface HostileTable {
  kind: string;
  cases: HostileCase[];
}
