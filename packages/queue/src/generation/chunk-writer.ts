import { Alarm } from '@lorasmith/concurrency';
import type { GenerationChunk } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { luaScript } from '../redis/lua-script.js';

const pushScript = luaScript(import.meta.url, './generation.lua', 'push_chunks');

/** A chunk of an answer with its number, from 1, as it is stored: a command that is repeated on a new connection sends chunks again. */
export interface NumberedChunk {
  number: number;
  piece: GenerationChunk;
}

/** Sends an answer to the api that asked. */
export interface ChunkWriter {
  /** Aborted when nobody wants the answer any more, or it is read too slowly; its work should then stop. */
  readonly signal: AbortSignal;
  /** Sends a chunk. Nothing is sent after `end` or `failed`. */
  write(chunk: GenerationChunk): void;
  /** Sends nothing more. */
  abandon(): void;
  /** Resolves when everything has been sent, or is no longer wanted. */
  readonly done: Promise<void>;
}

/** The time without a sign of the worker after which its requests count as lost. */
export const CLAIM_LIFETIME_MS = 8_000;
/** The time after which the claim is renewed while there is nothing to send, and it is seen that the caller has left. */
const RENEW_MS = 1_000;
/** The time after which it is seen that the api has read something. */
const BLOCKED_LOOK_MS = 50;
/** Bytes in Redis that the api has not read yet, before no more are sent. */
const MAX_UNREAD_BYTES = 512 * 1024;
/** Bytes that wait in this process for the api to read what is before them. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024;
/** Limits, for docs/limits.md. */
export const unreadLimits = {
  inRedis: { value: MAX_UNREAD_BYTES, unit: 'bytes', beyond: 'the worker waits' },
  inWorker: { value: MAX_UNSENT_BYTES, unit: 'bytes', beyond: 'the answer is ended' },
};
/** Bytes of one command, to which one more chunk is added. */
const MAX_PUSH_BYTES = 256 * 1024;
const MAX_PUSH_CHUNKS = 1_000;

export interface ChunkWriterOptions {
  redis: Redis;
  id: string;
  keys: Record<'request' | 'claim' | 'chunks', string>;
  channel: string;
  workerName: string;
}

/**
 * One command at a time is under way, with all chunks that came meanwhile. What a client does not read stays here, up to a
 * limit, so neither Redis nor this process fills.
 */
export function createChunkWriter({ redis, id, keys, channel, workerName }: ChunkWriterOptions): ChunkWriter {
  const unwanted = new AbortController();
  /** Not sent yet. */
  let unsent: string[] = [];
  let unsentBytes = 0;
  let chunkCount = 0;
  /** Sizes of the chunks in Redis, the oldest first. */
  let unread: number[] = [];
  let isComplete = false;
  let isAbandoned = false;
  const alarm = new Alarm();

  const abandon = () => {
    isAbandoned = true;
    isComplete = true;
    unsent = [];
    unwanted.abort();
    alarm.ring();
  };
  const isBlocked = () => unread.reduce((sum, size) => sum + size, 0) >= MAX_UNREAD_BYTES;
  const queue = (chunk: GenerationChunk) => {
    const text = JSON.stringify({ number: ++chunkCount, piece: chunk } satisfies NumberedChunk);
    unsent.push(text);
    unsentBytes += text.length;
  };

  const takeUnsent = (): string[] => {
    const taken: string[] = [];
    let bytes = 0;
    while (unsent.length > 0 && taken.length < MAX_PUSH_CHUNKS && bytes < MAX_PUSH_BYTES) {
      const chunk = unsent.shift()!;
      bytes += chunk.length;
      taken.push(chunk);
    }
    unsentBytes -= bytes;
    return taken;
  };

  const run = async () => {
    while (!isAbandoned) {
      alarm.clear();
      const chunks = isBlocked() ? [] : takeUnsent();
      const args = { worker: workerName, lifetime_ms: CLAIM_LIFETIME_MS, channel, id };
      const count = Number(await pushScript(redis, keys, args, chunks));
      if (count < 0) return abandon();
      unread = [...unread, ...chunks.map(({ length }) => length)];
      unread = unread.slice(unread.length - count);
      if (isComplete && unsent.length === 0) return;
      if (unsent.length === 0) await alarm.wait(RENEW_MS);
      else if (isBlocked()) await alarm.wait(BLOCKED_LOOK_MS);
    }
  };

  return {
    signal: unwanted.signal,
    write(chunk) {
      if (isComplete) return;
      queue(chunk);
      isComplete = chunk.type === 'end' || chunk.type === 'failed';
      if (!isComplete && unsentBytes > MAX_UNSENT_BYTES) {
        // It replaces what is dropped.
        chunkCount -= unsent.length;
        unsent = [];
        queue(READ_TOO_SLOWLY);
        isComplete = true;
        unwanted.abort();
      }
      alarm.ring();
    },
    abandon,
    done: run().catch(abandon),
  };
}

const READ_TOO_SLOWLY: GenerationChunk = {
  type: 'failed',
  failure: { code: 'timeout', message: 'The answer was cut off because the client read it too slowly.' },
};
