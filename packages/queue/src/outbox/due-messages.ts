import type { Redis } from 'ioredis';
import { luaScript } from '../redis/lua-script.js';

const claimDueScript = luaScript(import.meta.url, './outbox.lua', 'claim_due');
const postponeDueScript = luaScript(import.meta.url, './outbox.lua', 'postpone_due');

/** A message that is claimed for an attempt. */
export interface ClaimedMessage<Message> {
  id: string;
  message: Message;
  /** Attempts that have failed. */
  attempts: number;
}

/**
 * Messages that a process is to send to a receiver outside, each when it is due. Scripts add them: the id with its time in one key, the
 * message as JSON in another. A message that names a `timeout_ms` is claimed for that much longer.
 */
export class DueMessages<Message> {
  readonly #redis: Redis;
  readonly #keys: { due_times: string; messages: string };

  constructor(redis: Redis, { dueTimes, messages }: { dueTimes: string; messages: string }) {
    this.#redis = redis;
    this.#keys = { due_times: dueTimes, messages };
  }

  /** The next message that is due, claimed for `leaseMs`; null: none is. If its process dies, another claims it again. */
  async claim(leaseMs: number): Promise<ClaimedMessage<Message> | null> {
    const claimed = await claimDueScript(this.#redis, this.#keys, { lease_ms: leaseMs });
    if (claimed === null) return null;
    const [id, message, attempts] = claimed as [string, string, number];
    return { id, message: JSON.parse(message) as Message, attempts };
  }

  async remove(id: string): Promise<void> {
    const { due_times, messages } = this.#keys;
    await this.#redis.multi().zrem(due_times, id).hdel(messages, id, `${id}:attempts`).exec();
  }

  /** Its attempt failed: it is due again after `delayMs`. */
  async postpone(id: string, delayMs: number): Promise<void> {
    await postponeDueScript(this.#redis, this.#keys, { id, delay_ms: delayMs });
  }

  async count(): Promise<number> {
    return await this.#redis.zcard(this.#keys.due_times);
  }
}
