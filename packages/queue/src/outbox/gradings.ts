import { createHash } from 'node:crypto';
import type { AskedGrader, GradingBatch, GradingBody, GradingOutcome, JobId, Owner } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { createEventNotices, type EventNotices, type Notice } from '../redis/event-notices.js';
import { luaScript } from '../redis/lua-script.js';
import { DueMessages } from './due-messages.js';

const askGradingScript = luaScript(import.meta.url, './outbox.lua', 'ask_grading');
const readGradingScript = luaScript(import.meta.url, './outbox.lua', 'read_grading');
const settleGradingScript = luaScript(import.meta.url, './outbox.lua', 'settle_grading');

/** Answers that the grader of a job is to reward. */
export interface AskedGrading {
  job: JobId;
  /** The owner of the job. */
  owner: Owner;
  grader: AskedGrader;
  batch: GradingBatch;
}

/** A grading that an api is to have done. */
export interface PendingGrading {
  /** The same for every attempt, and for the same answers of the job after a restart, so that a receiver recognizes it. */
  id: string;
  owner: Owner;
  job: JobId;
  grader: AskedGrader;
  /** The JSON of a {@link GradingBody}, whose items are those of its batch. */
  body: string;
  /** The number of its answers. */
  answers: number;
  /** Attempts that have failed. */
  attempts: number;
}

/** A grading as it is stored. */
interface StoredGrading {
  job: JobId;
  owner: Owner;
  grader: AskedGrader;
  timeout_ms: number;
  body: string;
  answers: number;
}

/** Attempts of a grading, and the waits between them. */
export const GRADING_DELAYS_MS: readonly number[] = [1_000, 5_000];
/** The time for which rewards are kept for a job that asks for them again after a crash. */
const KEPT_MS = 3_600_000;
/** A failure is kept for those that wait for it, not for a job that is resumed. */
const FAILURE_KEPT_MS = 10_000;
/** Added to the time of an attempt: an api that has not reported by then has died. */
const CLAIM_PADDING_MS = 15_000;
/** The time after which an outcome is looked for without a notice. */
const LOOK_MS = 1_000;
/** The time that a grading may wait in addition to that of its attempts: for an api, and for the gradings before it. */
const PATIENCE_MS = 600_000;
const NEW_GRADING = 'new';

export interface GradingsOptions {
  redis: Redis;
  keys: JobKeys;
  /** @defaultValue 600 000 */
  patienceMs?: number | undefined;
}

/**
 * Requests to graders outside of trainers, between the workers, which reach nothing outside, and the apis, which send them. A grading is named
 * after its answers: a second request for it, also after a crash, gets the outcome that is under way or kept.
 */
export class Gradings {
  readonly #redis: Redis;
  readonly #keys: JobKeys;
  readonly #patienceMs: number;
  readonly #added: EventNotices;
  readonly #graded: EventNotices;
  readonly #due: DueMessages<StoredGrading>;

  constructor({ redis, keys, patienceMs = PATIENCE_MS }: GradingsOptions) {
    this.#redis = redis;
    this.#keys = keys;
    this.#patienceMs = patienceMs;
    this.#added = createEventNotices({ redis, channel: keys.gradingChannel });
    this.#graded = createEventNotices({ redis, channel: keys.gradedChannel });
    this.#due = new DueMessages(redis, { dueTimes: keys.gradingsDue, messages: keys.gradingMessages });
  }

  /**
   * Has answers graded. While Redis cannot be reached, it waits as long as calls of its client do.
   * @param signal - Aborted when the outcome is no longer wanted.
   * @returns null after that
   */
  async ask(grading: AskedGrading, signal: AbortSignal): Promise<GradingOutcome | null> {
    const id = gradingId(grading);
    const message = JSON.stringify(storedOf(grading));
    const attempts = GRADING_DELAYS_MS.length + 1;
    const deadline = performance.now() + attempts * grading.grader.timeoutSeconds * 1_000 + this.#patienceMs;
    while (!signal.aborted) {
      // Before the look, so that no outcome in between is missed.
      const notice = this.#graded.listen(id);
      try {
        await notice.ready;
        const outcome = await this.#look(id, message);
        if (outcome !== null) return outcome;
        if (performance.now() >= deadline) {
          await this.#due.remove(id);
          return NOBODY_ASKED;
        }
        await notice.wait(LOOK_MS, signal);
      } finally {
        notice.close();
      }
    }
    return null;
  }

  /** Forgets a grading: no further attempt is made. */
  async withdraw(grading: AskedGrading): Promise<void> {
    await this.#due.remove(gradingId(grading));
  }

  /** The next grading that is due, claimed for the time of a request; null: none is. */
  async claim(): Promise<PendingGrading | null> {
    const claimed = await this.#due.claim(CLAIM_PADDING_MS);
    if (claimed === null) return null;
    const { timeout_ms: _, ...message } = claimed.message;
    return { id: claimed.id, ...message, attempts: claimed.attempts };
  }

  /** Its attempt failed: it is due again after `delayMs`. */
  async postpone(id: string, delayMs: number): Promise<void> {
    await this.#due.postpone(id, delayMs);
  }

  async settle(id: string, outcome: GradingOutcome): Promise<void> {
    const kept = outcome.kind === 'graded' ? KEPT_MS : FAILURE_KEPT_MS;
    const args = { id, outcome: JSON.stringify(outcome), kept_ms: kept, channel: this.#keys.gradedChannel };
    await settleGradingScript(this.#redis, this.#keysOf(id), args);
  }

  /** Notices new gradings from now on. */
  listen(): Notice {
    return this.#added.listen(NEW_GRADING);
  }

  /** The number of gradings that have no outcome yet, for monitoring. */
  async count(): Promise<number> {
    return await this.#due.count();
  }

  close(): void {
    this.#added.close();
    this.#graded.close();
  }

  /** The outcome, where there is one by now. The grading is added again where it has been lost. */
  async #look(id: string, message: string): Promise<GradingOutcome | null> {
    const keys = this.#keysOf(id);
    const [known, waits] = (await readGradingScript(this.#redis, keys, { id })) as [string, number];
    const args = { id, message, channel: this.#keys.gradingChannel, notice: NEW_GRADING };
    const outcome = known !== '' || waits === 1 ? known : await askGradingScript(this.#redis, keys, args);
    return outcome === null || outcome === '' ? null : (JSON.parse(outcome as string) as GradingOutcome);
  }

  #keysOf(id: string) {
    return {
      gradings_due: this.#keys.gradingsDue,
      grading_messages: this.#keys.gradingMessages,
      grading_outcome: this.#keys.gradingOutcome(id),
    };
  }
}

/** The name of a grading, which follows from its job and its answers. */
function gradingId({ job, batch }: AskedGrading): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([job, batch]))
    .digest('hex');
  return `gr_${digest.slice(0, 32)}`;
}

function storedOf({ job, owner, grader, batch }: AskedGrading): StoredGrading {
  const head = { type: 'answers.sampled', timestamp: new Date().toISOString() } satisfies Omit<GradingBody, 'data'>;
  // The items are JSON, whose numbers a parser would change.
  const data = `{"job":${JSON.stringify(job)},"step":${batch.step},"items":[${batch.items.join(',')}]}`;
  const body = `${JSON.stringify(head).slice(0, -1)},"data":${data}}`;
  return {
    job,
    owner,
    grader,
    timeout_ms: grader.timeoutSeconds * 1_000,
    body,
    answers: batch.items.length,
  };
}

const NOBODY_ASKED: GradingOutcome = {
  kind: 'failed',
  message:
    'The grader was not asked in time: no api took the answers, or it had too many others. Resume the job when the api runs again.',
};
