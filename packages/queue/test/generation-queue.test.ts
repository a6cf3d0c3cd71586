import { setTimeout as sleep } from 'node:timers/promises';
import type { GenerationChunk, GenerationRequest } from '@lorasmith/contracts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { prefix, redis, useRedis } from '../../../test/use-redis.js';
import {
  createGenerationClient,
  createGenerationServer,
  type GenerationClient,
  type GenerationServer,
} from '../src/index.js';

let client: GenerationClient;
let worker: GenerationServer;

useRedis();
beforeEach(() => {
  client = createGenerationClient({ redis, prefix });
  worker = createGenerationServer({ redis, prefix, workerName: 'one' });
});
afterEach(() => {
  client.close();
  worker.close();
});

const request = (base: string): GenerationRequest => ({
  base_model: base,
  adapter: null,
  input: { kind: 'text', prompts: ['Hello'], echo: false },
  schema: null,
  n: 1,
  max_tokens: 4,
  temperature: 0,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  presence_penalty: 0,
  frequency_penalty: 0,
  repetition_penalty: 1,
  seed: 1,
  stop: [],
  logprobs: null,
});
const text = (number: number, length = 1): GenerationChunk => ({
  type: 'text',
  choice: number,
  text: 'x'.repeat(length),
  tokens: [],
});
const END: GenerationChunk = { type: 'end', prompt_tokens: 1, completion_tokens: 2 };

function ask(base: string, waitMs = 20_000) {
  const leaving = new AbortController();
  const pieces: GenerationChunk[] = [];
  const ended = (async () => {
    for await (const piece of client.ask(request(base), { waitMs, signal: leaving.signal })) pieces.push(piece);
  })();
  ended.catch(() => {});
  return { pieces, ended, leave: () => leaving.abort() };
}

async function claimed(base: string | null = null) {
  for (;;) {
    const notice = worker.listen();
    await notice.ready;
    const one = await worker.claim(base);
    if (one === null) await notice.wait(1_000);
    notice.close();
    if (one !== null) return one;
  }
}

const keysLeft = async () => (await redis.keys(`${prefix}*`)).map((key) => key.slice(prefix.length));

test('an answer arrives in order, and nothing of it stays in Redis', async () => {
  const asked = ask('one');
  const { request: received, answer } = await claimed();
  expect(received).toEqual(request('one'));
  for (let i = 0; i < 200; i++) answer.write(text(i));
  answer.write(END);
  answer.write(text(999));
  await asked.ended;
  expect(asked.pieces).toEqual([...Array.from({ length: 200 }, (_, i) => text(i)), END]);
  await answer.done;
  expect(await keysLeft()).toEqual([]);
});

test('a worker claims for its base alone, the longest waiting first, and each request once', async () => {
  const asked = [];
  for (const base of ['one', 'two', 'one']) {
    asked.push(ask(base));
    await sleep(5);
  }
  await expect.poll(() => client.waiting()).toBe(3);
  expect(await worker.claim('three')).toBeNull();
  const other = await worker.claim('two');
  expect(other?.request.base_model).toBe('two');
  // Returned, it is first again for a worker that takes any base: it has waited longer than the last.
  const first = await worker.claim('one');
  await other?.giveBack();
  const again = await worker.claim(null);
  expect(again?.request.base_model).toBe('two');
  const last = await worker.claim(null);
  expect(await worker.claim(null)).toBeNull();
  for (const one of [first, again, last]) one?.answer.write(END);
  await Promise.all(asked.map(({ ended }) => ended));
});

test('a request that no worker takes ends in time, and is not claimed later', async () => {
  const asked = ask('one', 50);
  await expect(asked.ended).rejects.toMatchObject({ code: 'service_unavailable', retryAfterSeconds: 10 });
  expect(await worker.claim(null)).toBeNull();
  expect(await keysLeft()).toEqual([]);
});

test('a caller who leaves ends the work, waiting or answered', async () => {
  const asked = ask('one');
  const { answer } = await claimed();
  const waiting = ask('one');
  await expect.poll(() => client.waiting()).toBe(1);
  asked.leave();
  waiting.leave();
  await asked.ended;
  await waiting.ended;
  answer.write(text(1));
  await answer.done;
  expect(answer.signal.aborted).toBe(true);
  expect(await worker.claim(null)).toBeNull();
  expect(await keysLeft()).toEqual([]);
});

test('the requests of an api that died are dropped, and the worker of one stops', async () => {
  const asked = ask('one');
  const { answer } = await claimed();
  // What expires once nothing renews it.
  for (const key of await redis.keys(`${prefix}generation:request:*`)) await redis.del(key);
  await answer.done;
  expect(answer.signal.aborted).toBe(true);
  asked.leave();
  await asked.ended;
});

test('a worker that died is noticed', async () => {
  const asked = ask('one');
  const { answer } = await claimed();
  answer.write(text(1));
  await expect.poll(() => asked.pieces.length).toBe(1);
  answer.abandon();
  await answer.done;
  for (const key of await redis.keys(`${prefix}generation:claim:*`)) await redis.del(key);
  await expect(asked.ended).rejects.toMatchObject({ code: 'service_unavailable', retryAfterSeconds: 2 });
});

test('an answer that is not read fills neither Redis nor the worker', async () => {
  const pieces = client.ask(request('one'), { waitMs: 20_000, signal: new AbortController().signal });
  const first = pieces.next();
  const { answer } = await claimed();
  answer.write(text(0));
  await first;
  // The reader pauses here.
  for (let i = 0; i < 100; i++) answer.write(text(i, 100_000));
  await sleep(200);
  const [list = ''] = await redis.keys(`${prefix}generation:pieces:*`);
  const lengths = (await redis.lrange(list, 0, -1)).map(({ length }) => length);
  expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThan(1_000_000);
  expect(answer.signal.aborted).toBe(false);
  for (let i = 0; i < 100; i++) answer.write(text(i, 100_000));
  expect(answer.signal.aborted).toBe(true);
  const rest: GenerationChunk[] = [];
  for await (const piece of pieces) rest.push(piece);
  expect(rest.at(-1)).toMatchObject({ type: 'failed', failure: { code: 'timeout' } });
});
