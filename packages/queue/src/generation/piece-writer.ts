import { Alarm } from '@lorasmith/concurrency';
import type { GenerationPiece } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { pushScript } from './generation-scripts.js';

/** A piece with its number in the answer, from 1: a command that is repeated on a new connection sends pieces again. */
export interface NumberedPiece {
  number: number;
  piece: GenerationPiece;
}

/** Sends an answer to the api that asked. */
export interface PieceWriter {
  /** Aborted when nobody wants the answer any more, or it is read too slowly; its work should then stop. */
  readonly signal: AbortSignal;
  /** Sends a piece. Nothing is sent after `end` or `failed`. */
  write(piece: GenerationPiece): void;
  /** Sends nothing more. */
  abandon(): void;
  /** Resolves when everything has been sent, or is no longer wanted. */
  readonly done: Promise<void>;
}

/** The time without a sign of the worker after which its requests count as lost. */
export const CLAIM_LIFETIME_MS = 8_000;
/** How often the claim is renewed while there is nothing to send, and it is seen that the caller has left. */
const RENEW_MS = 1_000;
/** How soon it is seen that the api has read something. */
const BLOCKED_LOOK_MS = 50;
/** Bytes in Redis that the api has not read yet, before no more are sent. */
const MAX_UNREAD_BYTES = 512 * 1024;
/** Bytes that wait in this process for the api to read what is before them. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;
/** Limits, for docs/limits.md. */
export const unreadLimits = {
  inRedis: { value: MAX_UNREAD_BYTES, unit: 'bytes', beyond: 'the worker waits' },
  inWorker: { value: MAX_HELD_BYTES, unit: 'bytes', beyond: 'the answer is ended' },
};
/** Bytes of one command, to which one more piece is added. */
const MAX_PUSH_BYTES = 256 * 1024;
const MAX_PUSH_PIECES = 1_000;

export interface PieceWriterOptions {
  redis: Redis;
  id: string;
  keys: Record<'request' | 'claim' | 'pieces', string>;
  channel: string;
  workerName: string;
}

/**
 * One command at a time is under way, with all pieces that came meanwhile. What a caller does not read stays here, up to a
 * limit, so neither Redis nor this process fills.
 */
export function createPieceWriter({ redis, id, keys, channel, workerName }: PieceWriterOptions): PieceWriter {
  const unwanted = new AbortController();
  /** Not sent yet. */
  let held: string[] = [];
  let heldBytes = 0;
  let pieceCount = 0;
  /** Sizes of the pieces in Redis, the oldest first. */
  let unread: number[] = [];
  let isComplete = false;
  let isAbandoned = false;
  const alarm = new Alarm();

  const abandon = () => {
    isAbandoned = true;
    isComplete = true;
    held = [];
    unwanted.abort();
    alarm.ring();
  };
  const isBlocked = () => unread.reduce((sum, size) => sum + size, 0) >= MAX_UNREAD_BYTES;
  const hold = (piece: GenerationPiece) => {
    const text = JSON.stringify({ number: ++pieceCount, piece } satisfies NumberedPiece);
    held.push(text);
    heldBytes += text.length;
  };

  const takeHeld = (): string[] => {
    const taken: string[] = [];
    let bytes = 0;
    while (held.length > 0 && taken.length < MAX_PUSH_PIECES && bytes < MAX_PUSH_BYTES) {
      const piece = held.shift()!;
      bytes += piece.length;
      taken.push(piece);
    }
    heldBytes -= bytes;
    return taken;
  };

  const run = async () => {
    while (!isAbandoned) {
      alarm.clear();
      const pieces = isBlocked() ? [] : takeHeld();
      const args = { worker: workerName, lifetime_ms: CLAIM_LIFETIME_MS, channel, id };
      const count = Number(await pushScript(redis, keys, args, pieces));
      if (count < 0) return abandon();
      unread = [...unread, ...pieces.map(({ length }) => length)];
      unread = unread.slice(unread.length - count);
      if (isComplete && held.length === 0) return;
      if (held.length === 0) await alarm.wait(RENEW_MS);
      else if (isBlocked()) await alarm.wait(BLOCKED_LOOK_MS);
    }
  };

  return {
    signal: unwanted.signal,
    write(piece) {
      if (isComplete) return;
      hold(piece);
      isComplete = piece.type === 'end' || piece.type === 'failed';
      if (!isComplete && heldBytes > MAX_HELD_BYTES) {
        // It takes the place of what is dropped.
        pieceCount -= held.length;
        held = [];
        hold(READ_TOO_SLOWLY);
        isComplete = true;
        unwanted.abort();
      }
      alarm.ring();
    },
    abandon,
    done: run().catch(abandon),
  };
}

const READ_TOO_SLOWLY: GenerationPiece = {
  type: 'failed',
  failure: { code: 'timeout', message: 'The answer was cut off because the client read it too slowly.' },
};
