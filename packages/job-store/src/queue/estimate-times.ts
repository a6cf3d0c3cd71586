/** A worker that runs, with the jobs that it trains at the same time. */
export interface EstimatedWorker {
  slots: number;
  /** Seconds that each job would still take if it had the worker for itself; null: unknown. */
  held: readonly { id: string; seconds: number | null }[];
}

/** When a job starts and ends, in seconds from now; null: unknown. */
export interface EstimatedTimes {
  start: number | null;
  end: number | null;
}

interface Running {
  id: string;
  /**
   * The end on the clock of its worker, which counts the seconds that each of its jobs has had. Null: it never ends, as far
   * as is known.
   */
  endsAt: number | null;
}

/**
 * When the jobs start and end if nothing is sent, cancelled or paused: each waiting job takes the first place that gets free, and the
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
  const machines = workers.map(({ slots, held }) => ({
    slots,
    clock: 0,
    running: held.map(({ id, seconds }): Running => ({ id, endsAt: seconds })),
  }));
  for (const { held } of workers) for (const { id } of held) times.set(id, { start: null, end: null });

  /** Lets time pass until the next job ends; null: none does. */
  const nextEnd = () => {
    let next: { machine: (typeof machines)[number]; job: Running; inSeconds: number } | null = null;
    for (const machine of machines) {
      for (const job of machine.running) {
        if (job.endsAt === null) continue;
        const inSeconds = Math.max(0, job.endsAt - machine.clock) * machine.running.length;
        if (next === null || inSeconds < next.inSeconds) next = { machine, job, inSeconds };
      }
    }
    if (next === null) return null;
    now += next.inSeconds;
    for (const machine of machines) {
      if (machine.running.length > 0) machine.clock += next.inSeconds / machine.running.length;
    }
    next.machine.running = next.machine.running.filter((job) => job !== next.job);
    times.get(next.job.id)!.end = now;
    return next;
  };

  for (const { id, seconds } of waiting) {
    let free = freest(machines);
    while (free === null && nextEnd() !== null) free = freest(machines);
    if (free === null) {
      times.set(id, { start: null, end: null });
      continue;
    }
    times.set(id, { start: now, end: null });
    free.running.push({ id, endsAt: seconds === null ? null : free.clock + seconds });
  }
  while (nextEnd() !== null);
  return times;
}

/** The machine with the fewest jobs, if it has a free place. */
function freest<Machine extends { slots: number; running: Running[] }>(machines: Machine[]): Machine | null {
  const [first] = machines
    .filter(({ slots, running }) => running.length < slots)
    .sort((one, other) => one.running.length - other.running.length);
  return first ?? null;
}
