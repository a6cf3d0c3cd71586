import { createHash } from 'node:crypto';
import type { GraderWebhook, GradingBatch, GradingBody, GradingOutcome, JobId, Owner } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { createEventNotices, type Notice } from '../redis/event-notices.js';
import { createDueMessages } from './due-messages.js';
import { askGradingScript, readGradingScript, settleGradingScript } from './grading-scripts.js';

/** Answers that the webhook of a job's grader is to reward. */
export interface AskedGrading {
  job: JobId;
  /** The owner of the job. */
  owner: Owner;
  webhook: GraderWebhook;
  batch: GradingBatch;
}

/** A grading that an api is to have done. */
export interface PendingGrading {
  /** The same for every attempt, and for the same answers of the job after a restart, so that a receiver recognizes it. */
  id: string;
  owner: Owner;
  job: JobId;
  webhook: GraderWebhook;
  /** The JSON of a {@link GradingBody}. */
  body: string;
  /** How many answers it has. */
  answers: number;
  /** Attempts that have failed. */
  attempts: number;
}

/**
 * Requests to the webhooks of graders, between the workers, which reach nothing outside, and the apis, which send them. A grading is named
 * after its answers: whoever asks for it again, also after a crash, gets the outcome that is under way or kept.
 */
export interface Gradings {
  /**
   * Has answers graded. While Redis cannot be reached, it waits as long as calls of its client do.
   * @param signal - Aborted when the outcome is no longer wanted.
   * @returns null after that
   */
  ask(grading: AskedGrading, signal: AbortSignal): Promise<GradingOutcome | null>;
  /** Forgets a grading: no further attempt is made. */
  withdraw(grading: AskedGrading): Promise<void>;
  /** The next one that is due, claimed for the time of a request; null: none is. */
  claim(): Promise<PendingGrading | null>;
  /** Its attempt failed: it is due again after so long. */
  postpone(id: string, delayMs: number): Promise<void>;
  settle(id: string, outcome: GradingOutcome): Promise<void>;
  /** Notices new gradings from now on. */
  listen(): Notice;
  /** The number of gradings that have no outcome yet, for monitoring. */
  count(): Promise<number>;
  close(): void;
}

/** A grading as it is stored. */
interface StoredGrading {
  job: JobId;
  owner: Owner;
  url: string;
  timeout_ms: number;
  body: string;
  answers: number;
}

/** Attempts of a grading, and the waits between them. */
export const GRADING_DELAYS_MS: readonly number[] = [1_000, 5_000];
/** How long rewards are kept for a job that asks for them again after a crash. */
const KEPT_MS = 3_600_000;
/** A failure is kept for those that wait for it, not for a job that is resumed. */
const FAILURE_KEPT_MS = 10_000;
/** Longer than an attempt takes beyond its time: an api that has not reported by then has died. */
const CLAIM_MARGIN_MS = 15_000;
/** How often an outcome is looked for without a notice. */
const LOOK_MS = 1_000;
/** How long a grading may wait beyond the time of its attempts: for an api, and for its turn. */
const PATIENCE_MS = 600_000;
const NEW_GRADING = 'new';

export function createGradings({
  redis,
  keys,
  patienceMs = PATIENCE_MS,
}: {
  redis: Redis;
  keys: JobKeys;
  /** @defaultValue 600 000 */
  patienceMs?: number | undefined;
}): Gradings {
  const added = createEventNotices({ redis, channel: keys.gradingChannel });
  const graded = createEventNotices({ redis, channel: keys.gradedChannel });
  const due = createDueMessages<StoredGrading>(redis, { dueTimes: keys.gradingsDue, messages: keys.gradingMessages });
  const keysOf = (id: string) => ({
    gradings_due: keys.gradingsDue,
    grading_messages: keys.gradingMessages,
    grading_outcome: keys.gradingOutcome(id),
  });

  /** The outcome, where there is one by now. The grading is added again where it has been lost. */
  const look = async (id: string, message: string): Promise<GradingOutcome | null> => {
    const [known, waits] = (await readGradingScript(redis, keysOf(id), { id })) as [string, number];
    const args = { id, message, channel: keys.gradingChannel, notice: NEW_GRADING };
    const outcome = known !== '' || waits === 1 ? known : await askGradingScript(redis, keysOf(id), args);
    return outcome === null || outcome === '' ? null : (JSON.parse(outcome as string) as GradingOutcome);
  };

  return {
    async ask(grading, signal) {
      const id = gradingId(grading);
      const message = JSON.stringify(storedOf(grading));
      const attempts = GRADING_DELAYS_MS.length + 1;
      const deadline = performance.now() + attempts * grading.webhook.timeoutSeconds * 1_000 + patienceMs;
      while (!signal.aborted) {
        // Before the look, so that no outcome in between is missed.
        const notice = graded.listen(id);
        try {
          await notice.ready;
          const outcome = await look(id, message);
          if (outcome !== null) return outcome;
          if (performance.now() >= deadline) {
            await due.remove(id);
            return NOBODY_ASKED;
          }
          await notice.wait(LOOK_MS, signal);
        } finally {
          notice.close();
        }
      }
      return null;
    },
    withdraw: (grading) => due.remove(gradingId(grading)),
    async claim() {
      const claimed = await due.claim(CLAIM_MARGIN_MS);
      if (claimed === null) return null;
      const { url, timeout_ms: timeoutMs, ...rest } = claimed.message;
      return {
        id: claimed.id,
        ...rest,
        webhook: { url, timeoutSeconds: timeoutMs / 1_000 },
        attempts: claimed.attempts,
      };
    },
    postpone: due.postpone,
    async settle(id, outcome) {
      const kept = outcome.kind === 'graded' ? KEPT_MS : FAILURE_KEPT_MS;
      const args = { id, outcome: JSON.stringify(outcome), kept_ms: kept, channel: keys.gradedChannel };
      await settleGradingScript(redis, keysOf(id), args);
    },
    listen: () => added.listen(NEW_GRADING),
    count: due.count,
    close() {
      added.close();
      graded.close();
    },
  };
}

/** The name of a grading, which follows from its job and its answers. */
function gradingId({ job, batch }: AskedGrading): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([job, batch]))
    .digest('hex');
  return `gr_${digest.slice(0, 32)}`;
}

function storedOf({ job, owner, webhook, batch }: AskedGrading): StoredGrading {
  const head = { type: 'answers.sampled', timestamp: new Date().toISOString() } satisfies Omit<GradingBody, 'data'>;
  // The items are JSON, whose numbers a parser would change.
  const data = `{"job":${JSON.stringify(job)},"step":${batch.step},"items":[${batch.items.join(',')}]}`;
  const body = `${JSON.stringify(head).slice(0, -1)},"data":${data}}`;
  return {
    job,
    owner,
    url: webhook.url,
    timeout_ms: webhook.timeoutSeconds * 1_000,
    body,
    answers: batch.items.length,
  };
}

const NOBODY_ASKED: GradingOutcome = {
  kind: 'failed',
  message:
    'The webhook of the grader was not asked in time: no api took the answers, or it had too many others. Resume the job when the api runs again.',
};
