import type { BaseQuantization, JobId, JobPriority, JobSpec, ModelName, TrainingSettings } from '@lorasmith/contracts';

/** The share of a job of the part of its key, relative to the other jobs of the key that train at the same time. */
export const PRIORITY_WEIGHTS: Readonly<Record<JobPriority, number>> = { low: 1 / 4, normal: 1, high: 4 };

/**
 * The number of jobs of its key, sent earlier, that a job of this priority goes ahead of. So a job of a lower priority waits
 * for at most 200 jobs that were sent later, however many are sent.
 */
export const POSITIONS_AHEAD: Readonly<Record<JobPriority, number>> = { low: -100, normal: 0, high: 100 };

/**
 * The facts about an unfinished job that the queue needs besides its status, as JSON in Redis. Scripts change it. It stays while a worker
 * trains the job, and goes when the job ends or its user pauses it.
 */
export interface QueueEntry {
  /** The API key that owns the job; '' without one. */
  key: string;
  base_model: ModelName;
  precision: TrainingSettings['precision'];
  base_quantization: BaseQuantization;
  /** Position in the line of its key: the smallest is next. */
  place: number;
  /** When it began to wait, in milliseconds. A job that a worker returns unserved keeps its time. */
  queued_at: number;
  /** True if a worker takes it only while it trains nothing else. */
  starts_alone?: boolean;
  /** Not taken before this time, in milliseconds. */
  not_before?: number;
  /** Tokens that it reads from its first step to its last; null: it is not planned yet. */
  tokens: number | null;
  /** The share of its steps that its newest checkpoint has. @defaultValue 0 */
  done?: number;
  /** Seconds of training that remain, if it trains alone; null: unknown. */
  seconds: number | null;
  /** The memory of a machine with which it just fits, in bytes; null: unknown. */
  memory: number | null;
}

/** The work of a job, as far as it is known. */
export interface PlannedWork {
  tokens: number | null;
  seconds: number | null;
  memory: number | null;
}

export const UNPLANNED: PlannedWork = { tokens: null, seconds: null, memory: null };

/** Tokens that a waiting job will still read; null: it is not planned yet. */
export function tokensLeft({ tokens, done = 0 }: Pick<QueueEntry, 'tokens' | 'done'>): number | null {
  return tokens === null ? null : Math.round(tokens * (1 - done));
}

/** The fields of an entry that do not depend on when the job enters the queue, and the positions that it goes ahead. */
export function queueFacts(spec: JobSpec, { tokens, seconds, memory }: PlannedWork): string {
  const { base_model, priority, training } = spec;
  return JSON.stringify({
    base_model,
    precision: training.precision,
    base_quantization: training.base_quantization,
    ahead: POSITIONS_AHEAD[priority],
    tokens,
    seconds,
    memory,
  });
}

/** The shares by which jobs that train at the same time divide a machine. */
export interface JobShare {
  /** The API key that owns the job; '' without one. */
  key: string;
  /** The weight of the key among the keys. */
  keyWeight: number;
  /** The weight of the job among those of its key. */
  jobWeight: number;
}

/** A job that waits in the queue. */
export interface WaitingJob {
  /** Its id in BullMQ, see {@link bullIdOf}. */
  bullId: string;
  id: JobId;
  /** Null: the job has ended or was deleted. A worker takes it only to remove it from BullMQ. */
  entry: QueueEntry | null;
}
