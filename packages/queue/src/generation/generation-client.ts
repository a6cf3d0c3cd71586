import { randomUUID } from 'node:crypto';
import { type GenerationChunk, type GenerationRequest, ProductError } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { generationKeys, NEW_REQUEST } from '../keys.js';
import { createEventNotices } from '../redis/event-notices.js';
import { luaScript } from '../redis/lua-script.js';
import { onRedis } from '../redis/redis-errors.js';
import type { NumberedChunk } from './chunk-writer.js';

const submitScript = luaScript(import.meta.url, './generation.lua', 'submit_request');
const readScript = luaScript(import.meta.url, './generation.lua', 'read_chunks');
const leaveScript = luaScript(import.meta.url, './generation.lua', 'leave_request');

export interface AskOptions {
  /** The time for which the request waits for a worker that can answer it. */
  waitMs: number;
  /** Aborted when nobody wants the answer any more. The chunks then end, and its worker stops. */
  signal: AbortSignal;
}

/** The requests of an api. Every call throws ProductError `redis_unavailable` if Redis cannot be reached. */
export interface GenerationClient {
  /**
   * Sends a request and returns the chunks of its answer, the last one (`end` or `failed`) included. They are taken from
   * Redis only as fast as they are read.
   *
   * @throws ProductError `service_unavailable` if no worker takes the request in time, too many requests wait, or its worker
   * dies
   */
  ask(request: GenerationRequest, options: AskOptions): AsyncGenerator<GenerationChunk>;
  /** Number of requests that wait for a worker. */
  waiting(): Promise<number>;
  close(): void;
}

/** Requests of all api processes that may wait for a worker. */
const MAX_WAITING = 256;
/** Limits, for docs/limits.md. */
export const queueLimits = {
  waiting: { value: MAX_WAITING, unit: 'requests', beyond: '503 `service_unavailable`' },
};
/** The time without a sign of the api after which its requests are dropped. */
const REQUEST_LIFETIME_MS = 15_000;
/** The time after which the api renews its requests. */
const RENEW_MS = 3_000;
/** The time after which it looks for chunks without a notice. */
const LOOK_MS = 1_000;
const CHUNKS_AT_ONCE = 64;
/** A worker that has just claimed a request needs a moment until that shows. */
const LOST_LOOKS = 3;

export function createGenerationClient({ redis, prefix }: { redis: Redis; prefix: string }): GenerationClient {
  const keys = generationKeys(prefix);
  const notices = createEventNotices({ redis, channel: keys.chunkChannel });

  return {
    async *ask(request, { waitMs, signal }) {
      const id = randomUUID();
      const member = `${id} ${request.base_model}`;
      const own = {
        waiting: keys.waiting,
        request: keys.request(id),
        claim: keys.claim(id),
        chunks: keys.chunks(id),
      };
      const submitted = await onRedis(() =>
        submitScript(redis, own, {
          member,
          body: JSON.stringify(request),
          lifetime_ms: REQUEST_LIFETIME_MS,
          // Its own patience ends first, so that it, and not a worker's clean-up, decides.
          wait_ms: waitMs + REQUEST_LIFETIME_MS,
          max_waiting: MAX_WAITING,
          channel: keys.requestChannel,
          notice: NEW_REQUEST,
        }),
      );
      if (submitted === 0) throw tooManyWait();
      const deadline = performance.now() + waitMs;
      let lostLooks = 0;
      let lastNumber = 0;
      // A reader that pauses is still there.
      const renewal = setInterval(() => {
        redis
          .multi()
          .pexpire(own.request, REQUEST_LIFETIME_MS)
          .pexpire(own.chunks, REQUEST_LIFETIME_MS)
          .exec()
          .catch(() => {});
      }, RENEW_MS);
      try {
        while (!signal.aborted) {
          // Before the look, so that no chunk in between is missed.
          const notice = notices.listen(id);
          try {
            await notice.ready;
            const [state, chunks] = (await onRedis(() =>
              readScript(redis, own, { member, lifetime_ms: REQUEST_LIFETIME_MS, count: CHUNKS_AT_ONCE }),
            )) as ['waiting' | 'claimed' | 'lost', string[]];
            for (const text of chunks) {
              const { number, piece: chunk } = JSON.parse(text) as NumberedChunk;
              if (number <= lastNumber) continue;
              if (number !== ++lastNumber) throw workerDied();
              yield chunk;
              if (chunk.type === 'end' || chunk.type === 'failed') return;
            }
            if (chunks.length > 0) continue;
            if (state === 'waiting' && performance.now() >= deadline) throw noWorker(request.base_model);
            lostLooks = state === 'lost' ? lostLooks + 1 : 0;
            if (lostLooks === LOST_LOOKS) throw workerDied();
            const patienceMs = state === 'waiting' ? deadline - performance.now() : LOOK_MS;
            await notice.wait(Math.min(LOOK_MS, patienceMs), signal);
          } finally {
            notice.close();
          }
        }
      } finally {
        clearInterval(renewal);
        // Where Redis cannot be reached, the request expires.
        await leaveScript(redis, own, { member }).catch(() => {});
      }
    },
    waiting: () => onRedis(() => redis.zcard(keys.waiting)),
    close: () => notices.close(),
  };
}

const RETRY_AFTER_SECONDS = 10;

function tooManyWait(): ProductError {
  const message = `There are ${MAX_WAITING} requests that wait for a worker, which is the limit. Try again later.`;
  return new ProductError('service_unavailable', message, { retryAfterSeconds: RETRY_AFTER_SECONDS });
}

function noWorker(baseModel: string): ProductError {
  const message =
    `No worker can answer for ${baseModel} now: each one is busy with another base model, or with as many requests as it takes. ` +
    'Try again later.';
  return new ProductError('service_unavailable', message, { retryAfterSeconds: RETRY_AFTER_SECONDS });
}

function workerDied(): ProductError {
  const message = 'The worker that was answering has ended. Send the request again.';
  return new ProductError('service_unavailable', message, { retryAfterSeconds: 2 });
}
