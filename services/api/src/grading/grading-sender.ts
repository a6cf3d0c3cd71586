import type { LookupFunction } from 'node:net';
import { type GradingAnswer, type GradingOutcome, MAX_REWARDS_BYTES, ProductError } from '@lorasmith/contracts';
import { GRADING_DELAYS_MS, type Gradings, type PendingGrading } from '@lorasmith/queue';
import type { FastifyBaseLogger } from 'fastify';
import type { WebhookConfig } from './webhook-config.js';
import { postWebhook, secretOfOwner, startClaiming, webhookHeaders } from './webhook-delivery.js';

/** The interval at which gradings are looked for without a notice. */
const LOOK_MS = 1_000;
/** Requests of an api process that are under way. They are of many jobs, each of which has a few, and most of the time they wait. */
const AT_ONCE = 256;
/** Limits, for docs/limits.md. */
export const gradingSenderLimits = {
  atOnce: { value: AT_ONCE, unit: 'requests', beyond: 'further ones wait' },
  attempts: { value: GRADING_DELAYS_MS.length + 1, unit: 'attempts', beyond: '`grader_failed`' },
};
/** Statuses of a receiver that may do better the next time, besides those from 500 on. */
const TRY_AGAIN = new Set([408, 425, 429]);

export interface GradingSenderOptions {
  gradings: Pick<Gradings, 'claim' | 'listen' | 'postpone' | 'settle'>;
  config: WebhookConfig;
  log: FastifyBaseLogger;
  /** @defaultValue that of the system */
  lookup?: LookupFunction;
  /** The waits before each further attempt. @defaultValue {@link GRADING_DELAYS_MS} */
  delaysMs?: readonly number[];
}

/**
 * Sends answers to the webhooks of graders, and their rewards back. Several processes may: each grading is claimed by one at a time.
 * @returns stops it; what is being sent is broken off, and another process sends it again
 */
export function startGradingSender(options: GradingSenderOptions): () => Promise<void> {
  const { gradings, log } = options;
  return startClaiming({
    atOnce: AT_ONCE,
    async next(isFull, signal) {
      const notice = gradings.listen();
      try {
        await notice.ready;
        const claimed = isFull ? null : await gradings.claim().catch(() => null);
        if (claimed === null) await notice.wait(LOOK_MS, signal);
        return claimed;
      } finally {
        notice.close();
      }
    },
    attempt: (grading, signal) =>
      attempt(grading, options, signal).catch((error: unknown) =>
        log.warn({ err: error, grading: grading.id }, 'the outcome of a grading could not be stored'),
      ),
  });
}

async function attempt(
  grading: PendingGrading,
  { gradings, config, log, lookup, delaysMs = GRADING_DELAYS_MS }: GradingSenderOptions,
  signal: AbortSignal,
): Promise<void> {
  const { id, job, attempts } = grading;
  const answered = await send(grading, { config, lookup, signal });
  // Nobody knows whether the receiver has graded: it is asked again, with the same id.
  if (signal.aborted) return;
  const delay = delaysMs[attempts];
  if (answered.kind === 'try-again' && delay !== undefined) {
    log.warn(
      { job, grading: id, why: answered.why, retryInMs: delay },
      'the webhook of a grader failed; it is asked again',
    );
    return await gradings.postpone(id, delay);
  }
  if (answered.kind === 'graded') {
    log.info({ job, grading: id, answers: answered.rewards.length }, 'answers graded');
    return await gradings.settle(id, answered);
  }
  const times = attempts === 0 ? '' : ` ${attempts + 1} times`;
  const message = `The webhook of the grader failed${times}: ${answered.why} Correct it and resume the job, which goes on with the same answers.`;
  log.error({ job, grading: id, why: answered.why, attempts: attempts + 1 }, 'answers not graded');
  await gradings.settle(id, { kind: 'failed', message });
}

type Answered = Extract<GradingOutcome, { kind: 'graded' }> | { kind: 'try-again' | 'wrong'; why: string };

async function send(
  { id, owner, webhook, body, answers }: PendingGrading,
  {
    config: { secret, allowPrivate },
    lookup,
    signal,
  }: { config: WebhookConfig; lookup: LookupFunction | undefined; signal: AbortSignal },
): Promise<Answered> {
  if (secret === null)
    return { kind: 'wrong', why: 'this service sends no webhooks, since WEBHOOK_SECRET is not set.' };
  try {
    const { status, body: answer } = await postWebhook({
      url: webhook.url,
      headers: webhookHeaders(secretOfOwner(secret, owner), { id, body }),
      body,
      allowPrivate,
      timeoutMs: webhook.timeoutSeconds * 1_000,
      maxAnswerBytes: MAX_REWARDS_BYTES,
      signal,
      ...(lookup === undefined ? {} : { lookup }),
    });
    if (status >= 200 && status < 300) return rewardsIn(answer, answers);
    const redirected = status >= 300 && status < 400 ? ', and redirections are not followed' : '';
    const kind = status >= 500 || TRY_AGAIN.has(status) ? 'try-again' : 'wrong';
    return { kind, why: `it answered ${status}${redirected}.` };
  } catch (error) {
    // The address is no longer allowed.
    const kind = error instanceof ProductError ? 'wrong' : 'try-again';
    return { kind, why: (error as Error).message };
  }
}

/**
 * The rewards in what the webhook of a grader has answered ({@link GradingAnswer}), or what is wrong with it. That does not quote the answer,
 * which may be from a service of this network.
 * @param count of the answers that were to be graded
 */
function rewardsIn(text: string, count: number): ({ kind: 'graded' } & GradingAnswer) | { kind: 'wrong'; why: string } {
  const wrong = (why: string) => ({
    kind: 'wrong' as const,
    why: `${why} It must answer {"rewards": […]} with ${count} numbers.`,
  });
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return wrong('its answer is no JSON.');
  }
  const { rewards } = (answer ?? {}) as { rewards?: unknown };
  if (!Array.isArray(rewards)) return wrong('its answer has no list of rewards.');
  if (rewards.length !== count) return wrong(`it answered ${rewards.length} rewards to ${count} answers.`);
  const wrongIndex = rewards.findIndex((reward) => typeof reward !== 'number' || !Number.isFinite(reward));
  if (wrongIndex >= 0) return wrong(`its reward ${wrongIndex + 1} of ${count} is no finite number.`);
  return { kind: 'graded', rewards: rewards as number[] };
}
