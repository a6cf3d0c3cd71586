import { type GenerationChunk, GenerationRequest, type ModelName } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { Compile } from 'typebox/compile';
import { generationKeys, NEW_REQUEST } from '../keys.js';
import { createEventNotices, type Notice } from '../redis/event-notices.js';
import { luaScript } from '../redis/lua-script.js';
import { type ChunkWriter, CLAIM_LIFETIME_MS, createChunkWriter } from './chunk-writer.js';

const claimScript = luaScript(import.meta.url, './generation.lua', 'claim_request');
const beginScript = luaScript(import.meta.url, './generation.lua', 'begin_answer');
const giveBackScript = luaScript(import.meta.url, './generation.lua', 'give_back_request');

/** A request that this worker answers. */
export interface ClaimedRequest {
  /** The id for the log. */
  id: string;
  request: GenerationRequest;
  /** Receives the chunks of the answer. */
  answer: ChunkWriter;
  /** Returns the request to the waiting ones, for another worker, instead of answering it. */
  giveBack(): Promise<void>;
}

/** The requests that a worker answers. While Redis is unavailable, every call waits. */
export interface GenerationServer {
  /**
   * Takes the request that has waited longest, of this base or of any (null); null if there is none.
   * From then on no other worker has it.
   */
  claim(baseModel: ModelName | null): Promise<ClaimedRequest | null>;
  /** Notices new requests from now on. Ask for it before a claim, so that no request in between is missed. */
  listen(): Notice;
  close(): void;
}

const requestSchema = Compile(GenerationRequest);

export interface GenerationServerOptions {
  /** Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  redis: Redis;
  prefix: string;
  workerName: string;
}

export function createGenerationServer({ redis, prefix, workerName }: GenerationServerOptions): GenerationServer {
  const keys = generationKeys(prefix);
  const notices = createEventNotices({ redis, channel: keys.requestChannel });

  /** One claim: null if nothing waits, `unwanted` for a request that is answered or needs no answer. */
  const claimOne = async (baseModel: ModelName | null): Promise<ClaimedRequest | 'unwanted' | null> => {
    const claimed = await claimScript(redis, { waiting: keys.waiting }, { base: baseModel ?? '' });
    const [member, score] = claimed as [string?, string?];
    if (member === undefined || score === undefined) return null;
    const [id = ''] = member.split(' ', 1);
    const own = { request: keys.request(id), claim: keys.claim(id), chunks: keys.chunks(id) };
    const body = await beginScript(redis, own, { worker: workerName, lifetime_ms: CLAIM_LIFETIME_MS });
    if (typeof body !== 'string') return 'unwanted';
    const answer = createChunkWriter({ redis, id, keys: own, channel: keys.chunkChannel, workerName });
    const request: unknown = JSON.parse(body);
    if (!requestSchema.Check(request)) {
      answer.write(ANOTHER_VERSION);
      return 'unwanted';
    }
    const giveBack = async () => {
      answer.abandon();
      const args = { member, score, channel: keys.requestChannel, notice: NEW_REQUEST };
      await giveBackScript(redis, { waiting: keys.waiting, ...own }, args);
    };
    return { id, request, answer, giveBack };
  };

  return {
    async claim(baseModel) {
      for (;;) {
        const claimed = await claimOne(baseModel);
        if (claimed !== 'unwanted') return claimed;
      }
    },
    listen: () => notices.listen(NEW_REQUEST),
    close: () => notices.close(),
  };
}

const ANOTHER_VERSION: GenerationChunk = {
  type: 'failed',
  failure: { code: 'unsupported_version', message: 'The worker and the api are of different versions. Update both.' },
};
