import type { AskedGrader, GradingOutcome } from '@lorasmith/contracts';
import { GRADING_DELAYS_MS, type Gradings, type PendingGrading } from '@lorasmith/queue';
import type { FastifyBaseLogger } from 'fastify';
import type { Unsaid } from '../judging/judge-client.js';
import { startClaiming } from '../webhooks/webhook-delivery.js';

/** The interval at which gradings are looked for without a notice. */
const LOOK_MS = 1_000;
/** Requests of an api process that are under way. They are of many jobs, each of which has a few, and most of the time they wait. */
const AT_ONCE = 256;
/** Limits, for docs/limits.md. */
export const gradingSenderLimits = {
  atOnce: { value: AT_ONCE, unit: 'requests', beyond: 'further ones wait' },
  attempts: { value: GRADING_DELAYS_MS.length + 1, unit: 'attempts', beyond: '`grader_failed`' },
};
/** The answer of a grader: rewards, or why there are none, in words that the owner of the job may read. */
export type Answered = Extract<GradingOutcome, { kind: 'graded' }> | Unsaid;

/** Asks graders of one kind. */
export interface GraderClient<Asked extends AskedGrader> {
  /** Its name in a sentence. */
  readonly named: string;
  ask(grading: PendingGrading & { grader: Asked }, signal: AbortSignal): Promise<Answered>;
}

/** A client for each kind of grader. */
export type GraderClients = { [Kind in AskedGrader['kind']]: GraderClient<Extract<AskedGrader, { kind: Kind }>> };

export interface GradingSenderOptions {
  gradings: Pick<Gradings, 'claim' | 'listen' | 'postpone' | 'settle'>;
  clients: GraderClients;
  log: FastifyBaseLogger;
  /** The waits before each further attempt. @defaultValue {@link GRADING_DELAYS_MS} */
  delaysMs?: readonly number[];
}

/**
 * Asks graders for rewards of answers, and sends these back. Several processes may: each grading is claimed by one at a time.
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
  { gradings, clients, log, delaysMs = GRADING_DELAYS_MS }: GradingSenderOptions,
  signal: AbortSignal,
): Promise<void> {
  const { id, job, attempts, grader } = grading;
  const client = clients[grader.kind] as GraderClient<AskedGrader>;
  const answered = await client.ask(grading, signal);
  // Nobody knows whether the receiver has graded: it is asked again, with the same id.
  if (signal.aborted) return;
  const delay = delaysMs[attempts];
  if (answered.kind === 'try-again' && delay !== undefined) {
    const retryInMs = Math.max(delay, answered.afterMs ?? 0);
    log.warn({ job, grading: id, why: answered.why, retryInMs }, 'a grader failed; it is asked again');
    return await gradings.postpone(id, retryInMs);
  }
  if (answered.kind === 'graded') {
    const { rewards, judgeTokens } = answered;
    log.info({ job, grading: id, answers: rewards.length, judgeTokens }, 'answers graded');
    return await gradings.settle(id, answered);
  }
  const times = attempts === 0 ? '' : ` ${attempts + 1} times`;
  const message = `${client.named} failed${times}: ${answered.why} Correct it and resume the job, which goes on with the same answers.`;
  log.error({ job, grading: id, why: answered.why, attempts: attempts + 1 }, 'answers not graded');
  await gradings.settle(id, { kind: 'failed', message });
}
