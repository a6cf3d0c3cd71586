import { type QueueEntry, tokensLeft } from './queue-entry.js';

/** The use of the machines by an API key. */
export interface KeyUsage {
  /** Tokens that its jobs have trained, divided by its weight. */
  used: number;
  /** Jobs that workers have leased now. */
  leased: number;
  /** When a worker last gave up a job of it, in milliseconds; 0: never. */
  servedAt: number;
  weight: number;
}

/** A waiting job, of which only its {@link QueueEntry} matters here. */
export interface InLine {
  entry: QueueEntry;
}

/** The state of the queue that the order depends on. */
export interface QueueState<Waiting extends InLine = InLine> {
  /** The time in milliseconds. */
  now: number;
  waiting: readonly Waiting[];
  /** By API key; '' for jobs without one. */
  usage: ReadonlyMap<string, KeyUsage>;
}

const NO_USAGE: KeyUsage = { used: 0, leased: 0, servedAt: 0, weight: 1 };

/** The usage of an API key that the state may not know yet. */
export function usageOf({ usage }: Pick<QueueState, 'usage'>, key: string): KeyUsage {
  return usage.get(key) ?? NO_USAGE;
}

/** The waiting jobs of an API key, in their order. */
export interface Line<Waiting extends InLine> {
  key: string;
  jobs: Waiting[];
  /** True if the key has waited for its time limit while no worker had a job of it. */
  isOverdue: boolean;
}

/** The time limit of a key of which no worker has a job: this number of time slices for each key that has jobs. */
const OVERDUE_SLICES = 4;

/**
 * The lines of the API keys, in the order in which the keys are served next.
 *
 * - Overdue keys are first; the one that has waited longest leads. So no key starves, however much it has used before.
 * - Then come keys of which no worker has a job, then the others, each by the tokens used, divided by the key's weight.
 * - Of equals, the one with the job that has waited longest.
 */
export function linesInOrder<Waiting extends InLine>(state: QueueState<Waiting>, timeSliceMs: number): Line<Waiting>[] {
  const lines = new Map<string, Waiting[]>();
  for (const waiting of state.waiting) {
    const line = lines.get(waiting.entry.key);
    if (line === undefined) lines.set(waiting.entry.key, [waiting]);
    else line.push(waiting);
  }
  const busyKeys = [...state.usage].filter(([key, { leased }]) => leased > 0 || lines.has(key)).length;
  const limitMs = OVERDUE_SLICES * busyKeys * timeSliceMs;
  return [...lines]
    .map(([key, jobs]) => {
      jobs.sort((one, other) => one.entry.place - other.entry.place);
      const queuedAt = jobs.reduce((oldest, { entry }) => Math.min(oldest, entry.queued_at), Number.POSITIVE_INFINITY);
      const { used, leased, servedAt } = usageOf(state, key);
      const unservedMs = leased > 0 ? 0 : state.now - Math.max(queuedAt, servedAt);
      return { key, jobs, used, queuedAt, isLeased: leased > 0, unservedMs, isOverdue: unservedMs >= limitMs };
    })
    .sort(
      (one, other) =>
        Number(other.isOverdue) - Number(one.isOverdue) ||
        (one.isOverdue ? other.unservedMs - one.unservedMs : 0) ||
        Number(one.isLeased) - Number(other.isLeased) ||
        one.used - other.used ||
        one.queuedAt - other.queuedAt,
    );
}

/** Tokens that a job counts for while it is not planned. */
const TYPICAL_TOKENS = 100_000;

/**
 * All waiting jobs in the order in which they are expected to start, if no worker prefers a base model and nothing is sent: a key
 * is served again when its jobs before have used what the other keys have.
 */
export function expectedOrder<Waiting extends InLine>(state: QueueState<Waiting>, timeSliceMs: number): Waiting[] {
  const expected = linesInOrder(state, timeSliceMs).flatMap(({ key, jobs }, rank) => {
    const { used, leased, weight } = usageOf(state, key);
    let tag = used;
    return jobs.map((waiting, index) => {
      const before = tag;
      tag += (tokensLeft(waiting.entry) ?? TYPICAL_TOKENS) / weight;
      // The order of the lines has the keys of which no worker has a job before the others.
      return { waiting, rank, tag: index === 0 && leased === 0 ? Number.NEGATIVE_INFINITY : before };
    });
  });
  return expected
    .sort((one, other) => (one.tag === other.tag ? one.rank - other.rank : one.tag - other.tag))
    .map(({ waiting }) => waiting);
}
