import type { LookupFunction } from 'node:net';
import { type AskedWebhook, type GradingAnswer, MAX_REWARDS_BYTES, ProductError } from '@lorasmith/contracts';
import type { PendingGrading } from '@lorasmith/queue';
import { TRY_AGAIN } from '../judging/judge-client.js';
import type { WebhookConfig } from '../webhooks/webhook-config.js';
import { postWebhook, secretOfOwner, webhookHeaders } from '../webhooks/webhook-delivery.js';
import type { Answered, GraderClient } from './grading-sender.js';

/** Asks the webhooks of graders. @param lookup @defaultValue that of the system */
export function webhookClient(config: WebhookConfig, lookup?: LookupFunction): GraderClient<AskedWebhook> {
  return {
    named: 'The webhook of the grader',
    ask: (grading, signal) => send(grading, { config, lookup, signal }),
  };
}

async function send(
  { id, owner, grader, body, answers }: PendingGrading & { grader: AskedWebhook },
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
      url: grader.url,
      headers: webhookHeaders(secretOfOwner(secret, owner), { id, body }),
      body,
      allowPrivate,
      timeoutMs: grader.timeoutSeconds * 1_000,
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
