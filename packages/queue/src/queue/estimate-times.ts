/** A worker that runs, with the jobs that it trains at the same time. */
export interface EstimatedWorker {
  slots: number;
  /** Its jobs, with the seconds that each would still take if it had the worker for itself; null: unknown. */
  running: readonly { id: string; seconds: number | null }[];
}

/** When a job starts and ends, in seconds from now; null: unknown. */
export interface EstimatedTimes {
  start: number | null;
  end: number | null;
}

interface Running {
  id: string;
  /**
   * The end on the clock of its worker, which counts the seconds that each of its jobs has had. Infinity: it never ends, as far as is
   * known.
   */
  endsAt: number;
}

/** A worker whose jobs divide its time equally. */
class Machine {
  readonly #slots: number;
  #running: Running[];
  /** The seconds that each of the jobs has had. */
  #clock = 0;
  /** The time for which the clock is right, in seconds from now. */
  #at = 0;
  /** When its next job ends, in seconds from now. */
  nextEnd = Number.POSITIVE_INFINITY;

  constructor({ slots, running }: EstimatedWorker) {
    this.#slots = slots;
    this.#running = running.map(({ id, seconds }) => ({ id, endsAt: seconds ?? Number.POSITIVE_INFINITY }));
    this.#plan();
  }

  get jobs(): number {
    return this.#running.length;
  }

  get hasSlot(): boolean {
    return this.#running.length < this.#slots;
  }

  start(id: string, seconds: number | null, now: number): void {
    if (this.#running.length > 0) this.#clock += (now - this.#at) / this.#running.length;
    this.#at = now;
    this.#running.push({ id, endsAt: this.#clock + (seconds ?? Number.POSITIVE_INFINITY) });
    this.#plan();
  }

  /** Ends the job that ends next. @returns its id */
  end(): string {
    const [first] = this.#running.splice(this.#first(), 1);
    this.#clock = Math.max(this.#clock, first!.endsAt);
    this.#at = this.nextEnd;
    this.#plan();
    return first!.id;
  }

  /** The index of the job that ends next. */
  #first(): number {
    let first = 0;
    for (let i = 1; i < this.#running.length; i++) {
      if (this.#running[i]!.endsAt < this.#running[first]!.endsAt) first = i;
    }
    return first;
  }

  #plan(): void {
    const first = this.#running[this.#first()];
    this.nextEnd =
      first === undefined
        ? Number.POSITIVE_INFINITY
        : this.#at + Math.max(0, first.endsAt - this.#clock) * this.#running.length;
  }
}

/**
 * When the jobs start and end if nothing is sent, cancelled or paused: each waiting job takes the first slot that gets free, and the
 * jobs of a worker divide its time equally. A job of unknown length keeps its share for ever: the others end no later than estimated.
 * It ignores base models, weights and that jobs together take less time than one after another.
 *
 * @param waiting - In the order in which they start.
 */
export function estimateTimes(
  workers: readonly EstimatedWorker[],
  waiting: readonly { id: string; seconds: number | null }[],
): Map<string, EstimatedTimes> {
  const times = new Map<string, EstimatedTimes>();
  let now = 0;
  const machines = workers.map((worker) => new Machine(worker));
  for (const { running } of workers) for (const { id } of running) times.set(id, { start: null, end: null });

  // Each waiting job looks through all of them.
  const ends = Float64Array.from(machines, (machine) => machine.nextEnd);
  /** Lets time pass until the next job ends. @returns the index of its machine; null: none does */
  const nextEnd = (): number | null => {
    let next: number | null = null;
    let nextAt = Number.POSITIVE_INFINITY;
    for (let i = 0; i < ends.length; i++) {
      if (ends[i]! < nextAt) {
        next = i;
        nextAt = ends[i]!;
      }
    }
    if (next === null) return null;
    now = nextAt;
    times.get(machines[next]!.end())!.end = now;
    ends[next] = machines[next]!.nextEnd;
    return next;
  };

  // Once there is none, the only free slot is that of a job that has ended.
  let areFree = true;
  for (const { id, seconds } of waiting) {
    let free: number | null = areFree ? freest(machines) : null;
    areFree = free !== null;
    while (free === null) {
      const ended = nextEnd();
      if (ended === null) break;
      if (machines[ended]!.hasSlot) free = ended;
    }
    times.set(id, { start: free === null ? null : now, end: null });
    if (free === null) continue;
    machines[free]!.start(id, seconds, now);
    ends[free] = machines[free]!.nextEnd;
  }
  while (nextEnd() !== null);
  return times;
}

/** The index of the machine with the fewest jobs, if it has a free slot. */
function freest(machines: readonly Machine[]): number | null {
  let found: number | null = null;
  for (const [i, machine] of machines.entries()) {
    if (machine.hasSlot && (found === null || machine.jobs < machines[found]!.jobs)) found = i;
  }
  return found;
}
