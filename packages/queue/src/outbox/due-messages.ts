import type { Redis } from 'ioredis';
import { claimDueScript, postponeDueScript } from './due-message-scripts.js';

/** A message that is claimed for an attempt. */
export interface ClaimedMessage<Message> {
  id: string;
  message: Message;
  /** Attempts that have failed. */
  attempts: number;
}

/**
 * Messages that a process is to send to a receiver outside, each when it is due. Scripts add them: the id with its time in one key, the
 * message as JSON in another. A message that names a `timeout_ms` is claimed for so much longer.
 */
export interface DueMessages<Message> {
  /** The next one that is due, claimed for so long; null: none is. If its process dies, another claims it again. */
  claim(leaseMs: number): Promise<ClaimedMessage<Message> | null>;
  remove(id: string): Promise<void>;
  /** Its attempt failed: it is due again after so long. */
  postpone(id: string, delayMs: number): Promise<void>;
  count(): Promise<number>;
}

export function createDueMessages<Message>(
  redis: Redis,
  { dueTimes, messages }: { dueTimes: string; messages: string },
): DueMessages<Message> {
  const names = { due_times: dueTimes, messages };
  return {
    async claim(leaseMs) {
      const claimed = (await claimDueScript(redis, names, { lease_ms: leaseMs })) as [string, string, number] | null;
      if (claimed === null) return null;
      const [id, message, attempts] = claimed;
      return { id, message: JSON.parse(message) as Message, attempts };
    },
    async remove(id) {
      await redis.multi().zrem(dueTimes, id).hdel(messages, id, `${id}:attempts`).exec();
    },
    async postpone(id, delayMs) {
      await postponeDueScript(redis, names, { id, delay_ms: delayMs });
    },
    count: () => redis.zcard(dueTimes),
  };
}
