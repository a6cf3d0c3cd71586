import type { JobId, ModelName } from '@lorasmith/contracts';
import { type Job as BullJob, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import {
  type Chooser,
  chooseNext,
  type JobAttempt,
  type JobStore,
  jobKeys,
  jobOfBullId,
  QUEUE_NAME,
  type QueueEntry,
} from '../src/index.js';

/** A clock that tests set. */
export interface DrivenClock {
  ms: number;
}

interface Training {
  id: JobId;
  attempt: JobAttempt;
  entry: QueueEntry;
  taken: BullJob;
  token: string;
  since: number;
  isPausing: boolean;
}

export interface SimulatedWorkerOptions {
  redis: Redis;
  prefix: string;
  store: JobStore;
  clock: DrivenClock;
  timeSliceMs: number;
  slots: number;
  name: string;
  /** Tokens that it trains in a second. */
  speed: number;
  /** The steps of 100 tokens that a job still needs; it changes them. */
  stepsLeft: Map<JobId, number>;
}

const TOKENS_PER_STEP = 100;

/**
 * A worker on a driven clock: it chooses by the rule of the real one, takes from the real queue and writes to the real records, but instead of
 * training it counts the steps of the jobs that it holds, by their shares.
 */
export class SimulatedWorker {
  readonly #options: SimulatedWorkerOptions;
  readonly #worker: Worker;
  readonly #leased: Training[] = [];
  #base: ModelName | null = null;
  #baseSince = 0;
  #target: JobId | null = null;
  #tokens = 0;
  /** Steps of each job that its share has not made whole yet. */
  readonly #parts = new Map<JobId, number>();
  changesOfBase = 0;

  constructor(options: SimulatedWorkerOptions) {
    this.#options = options;
    const { redis, prefix } = options;
    const connection = { connection: redis, prefix: jobKeys(prefix).queuePrefix };
    this.#worker = new Worker(QUEUE_NAME, null, { ...connection, autorun: false, lockDuration: 600_000 });
  }

  get jobs(): { id: JobId; key: string }[] {
    return this.#leased.map(({ id, entry }) => ({ id, key: entry.key }));
  }

  /** Takes or pauses what the rule says, until it says to wait. */
  async look(): Promise<JobId[]> {
    const { store, timeSliceMs, slots, name } = this.#options;
    const taken: JobId[] = [];
    for (;;) {
      const choice = await store.queue.locked(async () => {
        const queue = await store.queue.snapshot();
        const isFull = this.#leased.length >= slots;
        const base = { baseModel: this.#base, precisions: ['auto'] as const, quantization: 'none' as const };
        const chooser: Chooser = {
          capacity: isFull ? null : { ...base, isIdle: this.#leased.length === 0 },
          loaded: base,
          leased: this.#leased,
          slots,
          memory: null,
          baseSince: this.#baseSince,
          target: this.#target,
          targetsOfOthers: new Set([...queue.targets].flatMap(([id, by]) => (by === name ? [] : [id]))),
          warm: [],
        };
        const next = chooseNext(queue, chooser, timeSliceMs);
        if (next.action === 'take') taken.push(await this.#take(next.waiting.bullId, next.waiting.entry!));
        if (next.action === 'pause') {
          this.#target = next.target.id;
          await store.queue.recordTarget(next.target.id, name);
        }
        return next;
      });
      if (choice.action === 'wait') return taken;
      if (choice.action === 'pause') {
        const ids = choice.leased.map(({ id }) => id);
        for (const one of this.#leased.filter(({ id }) => ids.includes(id))) {
          await store.attempts.release(one.attempt, { hasHadSlice: true });
          await one.taken.moveToWait(one.token);
          this.#leased.splice(this.#leased.indexOf(one), 1);
        }
      }
    }
  }

  /** Trains for so long. @returns the jobs that ended */
  async train(ms: number): Promise<JobId[]> {
    const { store, speed, stepsLeft } = this.#options;
    const ended: JobId[] = [];
    const keys = new Map(this.#leased.map(({ entry, attempt }) => [entry.key, attempt.share.keyWeight]));
    const weights = [...keys.values()].reduce((sum, weight) => sum + weight, 0);
    for (const one of [...this.#leased]) {
      const { keyWeight, jobWeight, key } = one.attempt.share;
      const ofKey = this.#leased.filter(({ entry }) => entry.key === key);
      const part = jobWeight / ofKey.reduce((sum, { attempt }) => sum + attempt.share.jobWeight, 0);
      const exact = (speed * ms * (keyWeight / weights) * part) / 1000 / TOKENS_PER_STEP;
      const steps = (this.#parts.get(one.id) ?? 0) + exact;
      this.#parts.set(one.id, steps % 1);
      const left = stepsLeft.get(one.id)! - Math.floor(steps);
      stepsLeft.set(one.id, left);
      const done = 1_000_000 - Math.max(0, left);
      await store.attempts.record(one.attempt, {
        type: 'step-finished',
        data: {
          step: done,
          total_steps: 1_000_000,
          loss: 1,
          accuracy: 0.5,
          learning_rate: 1,
          grad_norm: 1,
          epoch: 1,
          tokens_per_second: 1,
          seconds_left: 1,
        },
      });
      if (left > 0) continue;
      await store.attempts.succeed(one.attempt, 'ad_0123456789abcdef01234567');
      await one.taken.moveToCompleted(null, one.token, false);
      this.#leased.splice(this.#leased.indexOf(one), 1);
      ended.push(one.id);
    }
    return ended;
  }

  async close(): Promise<void> {
    await this.#worker.close(true);
  }

  async #take(wanted: string, entry: QueueEntry): Promise<JobId> {
    const { store, clock, name, stepsLeft } = this.#options;
    await store.queue.moveToFront(wanted);
    const token = `${name}:${this.#tokens++}`;
    const taken = await this.#worker.getNextJob(token, { block: false });
    if (taken?.id !== wanted) throw new Error(`took ${taken?.id} instead of ${wanted}`);
    const { id, resumes } = jobOfBullId(wanted);
    const start = await store.attempts.start(id, name, resumes);
    if (start.outcome !== 'started') throw new Error(start.reason);
    const { attempt } = start;
    const report = { tokens: { total: 1_000_000 * TOKENS_PER_STEP }, steps: { total: 1_000_000 } } as never;
    await store.attempts.record(attempt, { type: 'report-ready', data: { report } });
    const step = 1_000_000 - stepsLeft.get(id)!;
    await store.attempts.record(attempt, { type: 'checkpoint-loaded', data: { step } });
    if (this.#base !== entry.base_model) {
      [this.#base, this.#baseSince] = [entry.base_model, clock.ms];
      this.changesOfBase++;
    }
    if (this.#target === id) this.#target = null;
    this.#leased.push({ id, attempt, entry, taken, token, since: clock.ms, isPausing: false });
    return id;
  }
}
