import type { GradingAnswer } from '@lorasmith/contracts';

/**
 * The rewards in what the webhook of a grader has answered ({@link GradingAnswer}), or what is wrong with it. That does not quote the answer,
 * which may be from a service of this network.
 * @param count of the answers that were to be graded
 */
export function rewardsIn(
  text: string,
  count: number,
): ({ kind: 'graded' } & GradingAnswer) | { kind: 'wrong'; why: string } {
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
  const place = rewards.findIndex((reward) => typeof reward !== 'number' || !Number.isFinite(reward));
  if (place >= 0) return wrong(`its reward ${place + 1} of ${count} is no finite number.`);
  return { kind: 'graded', rewards: rewards as number[] };
}
