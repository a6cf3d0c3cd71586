import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { GenerationChunk, GenerationRequest, ScoredTokens } from '@lorasmith/contracts';
import { loadTokenizer, ModelTexts, readModelFolder, type Tokenizer } from '@lorasmith/model-folder';
import { type ActingAdapter, type Decoder, LoraAdapter, loadDecoder } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import { BaseModelCache, chooseKernels, PassScheduler } from '@lorasmith/training';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { passLogprobs } from '../../../packages/models/test/pass-logprobs.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { GenerationHost } from '../src/generation/generation-host.js';

// Requests of tokens, on the real engine in this process; a pass over all tokens at once says what is right.

const ADAPTER = fileURLToPath(new URL('../../../test/fixtures/reference/llama-tied/adapter_trained', import.meta.url));
const VOCAB = 160;
/** The reference model ends a text with it. */
const END = 2;
const PROMPT = [...Array(40).keys()].map((i) => 3 + ((i * 7) % 90));

const kernels = chooseKernels('fused');
let folder: string;
let model: string;
let cache: BaseModelCache;
let host: GenerationHost;
let decoder: Decoder;
let adapter: LoraAdapter;
let tokenizer: Tokenizer;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-token-answers-'));
  model = path.join(folder, 'tiny-llama');
  await writeTinyLlama(model);
  // A base model whose files have just been written is read again for each request.
  await sleep(2_100);
  tokenizer = await loadTokenizer(model);
  decoder = await loadDecoder(await readModelFolder(model), 'float32', kernels);
  const initial = await readPeftFolder(ADAPTER);
  const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
  adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0, initial });
  const scheduler = new PassScheduler();
  cache = new BaseModelCache(kernels);
  host = new GenerationHost({
    cache,
    texts: new ModelTexts(),
    memory: { cacheBytes: 2 ** 22, adapterBytes: 2 ** 20 },
    ledger: { reserve: () => () => {} },
    onLoading: () => {},
    onWork: () => scheduler.wake(),
  });
  scheduler.generator = { hasWork: () => host.hasWork(), step: () => host.step(), fail: (error) => host.fail(error) };
});
afterAll(async () => {
  host.yieldMemory();
  cache.dispose();
  adapter.dispose();
  decoder.dispose();
  await rm(folder, { recursive: true, force: true });
});

type TokenInput = Extract<GenerationRequest['input'], { kind: 'tokens' }>;

async function sample(
  changes: Partial<GenerationRequest> = {},
  input: Partial<TokenInput> = {},
  { adapterFolder = null, modelFolder = model }: { adapterFolder?: string | null; modelFolder?: string } = {},
) {
  const request: GenerationRequest = {
    base_model: 'tiny-llama',
    adapter: null,
    input: {
      ...{ kind: 'tokens', prompt: PROMPT, stop_tokens: [], ends_itself: false, prompt_logprobs: null },
      prompt_last: null,
      ...input,
    },
    ...{ schema: null, n: 1, max_tokens: 12, temperature: 1, top_p: 1, top_k: 0, min_p: 0, seed: 1, stop: [] },
    ...{ presence_penalty: 0, frequency_penalty: 0, repetition_penalty: 1, logprobs: null },
    ...changes,
  };
  const precision = 'float32' as const;
  const order = { precision, quantization: 'none' as const, inTrainer: { precision, quantization: 'none' as const } };
  const chunks: GenerationChunk[] = [];
  const files = { modelFolder, adapterFolder, machine: null, weightDigests: path.join(folder, 'digests') };
  const counts = await host.generate(
    { request, ...order, ...files },
    { signal: new AbortController().signal, onChunk: (chunk) => chunks.push(chunk) },
  );
  const joined = (parts: readonly ScoredTokens[]): ScoredTokens => ({
    ids: parts.flatMap(({ ids }) => ids),
    logprobs: parts.flatMap(({ logprobs }) => logprobs),
    top: parts.flatMap(({ top }) => top),
  });
  const choices = Array.from({ length: request.n }, (_, choice) => ({
    ...joined(chunks.flatMap((chunk) => (chunk.type === 'tokens' && chunk.choice === choice ? [chunk.tokens] : []))),
    reason: chunks
      .flatMap((chunk) => (chunk.type === 'finish' && chunk.choice === choice ? [chunk.reason] : []))
      .join(),
  }));
  const prompt = joined(chunks.flatMap((chunk) => (chunk.type === 'prompt-scored' ? [chunk.tokens] : [])));
  return { counts, chunks, choices, prompt };
}

/** Expects the log-probabilities of a whole pass, and the most likely tokens in their order. */
function expectScored(tokens: ScoredTokens, before: readonly number[], alternatives: number, acting?: ActingAdapter[]) {
  const expected = passLogprobs(decoder, Int32Array.of(...before, ...tokens.ids), acting);
  expect(tokens.logprobs).toHaveLength(tokens.ids.length);
  expect(tokens.top).toHaveLength(alternatives === 0 ? 0 : tokens.ids.length);
  for (const [i, id] of tokens.ids.entries()) {
    const row = expected[before.length + i - 1];
    if (row === undefined) {
      expect(tokens.logprobs[i]).toBeNull();
      if (alternatives > 0) expect(tokens.top[i]).toEqual([]);
      continue;
    }
    expect(tokens.logprobs[i]).toBeCloseTo(row[id]!, 4);
    if (alternatives === 0) continue;
    const likely = [...row].sort((a, b) => b - a).slice(0, alternatives);
    expect(tokens.top[i]).toHaveLength(alternatives);
    for (const [place, [one, logprob]] of tokens.top[i]!.entries()) {
      expect(logprob).toBeCloseTo(likely[place]!, 4);
      expect(logprob).toBeCloseTo(row[one]!, 4);
    }
  }
}

describe('log-probabilities', () => {
  test('of a whole prompt come with one token after it', async () => {
    const { prompt, choices, chunks, counts } = await sample({ max_tokens: 1 }, { prompt_logprobs: 3 });
    expect(chunks.map(({ type }) => type)).toEqual(['start', 'prompt-scored', 'tokens', 'finish']);
    expect(prompt.ids).toEqual(PROMPT);
    expectScored(prompt, [], 3);
    expect(choices[0]).toMatchObject({ ids: [expect.any(Number)], top: [], reason: 'length' });
    expectScored(choices[0]!, PROMPT, 0);
    expect(counts).toEqual({ prompt: 40, completion: 1 });
  });

  test.each([1, 5, 39, 40, 100])('of the last %i tokens of a prompt alone', async (last) => {
    const all = (await sample({}, { prompt_logprobs: 2 })).prompt;
    const { prompt } = await sample({}, { prompt_logprobs: 2, prompt_last: last });
    const first = Math.max(0, 40 - last);
    const { ids, logprobs, top } = all;
    expect(prompt).toEqual({ ids: ids.slice(first), logprobs: logprobs.slice(first), top: top.slice(first) });
  });

  test('of a prompt of one token are none', async () => {
    const { prompt } = await sample({}, { prompt: [5], prompt_logprobs: 0 });
    expect(prompt).toEqual({ ids: [5], logprobs: [null], top: [] });
  });

  test('of what is drawn are those before temperature, limits and penalties; nothing of the prompt unasked', async () => {
    const settings = { n: 3, temperature: 2, top_k: 20, top_p: 0.95, repetition_penalty: 1.5, presence_penalty: 1 };
    const { choices, prompt } = await sample({ ...settings, logprobs: 4, max_tokens: 30 });
    expect(prompt.ids).toEqual([]);
    expect(new Set(choices.map(({ ids }) => ids.join())).size).toBe(3);
    for (const choice of choices) {
      expect(choice.ids).toHaveLength(30);
      expectScored(choice, PROMPT, 4);
    }
  });

  test('with two snapshots of one base model are those of each, also when they share passes', async () => {
    const [one, two] = [`sn_${'1'.repeat(24)}`, `sn_${'2'.repeat(24)}`];
    const scaled = path.join(folder, 'scaled');
    await cp(ADAPTER, scaled, { recursive: true });
    const config = JSON.parse(await readFile(path.join(scaled, 'adapter_config.json'), 'utf8'));
    await writeFile(
      path.join(scaled, 'adapter_config.json'),
      JSON.stringify({ ...config, lora_alpha: 3 * config.lora_alpha }),
    );
    const of = (id: string | null, adapterFolder: string | null) =>
      sample({ adapter: id, max_tokens: 20 }, { prompt_logprobs: 0 }, { adapterFolder });
    const alone = [await of(one, ADAPTER), await of(two, scaled), await of(null, null)];
    const together = await Promise.all([of(one, ADAPTER), of(two, scaled), of(null, null)]);
    expect(together).toEqual(alone);
    const [first, second, base] = together.map(({ prompt }) => prompt.logprobs);
    expect(first).not.toEqual(second);
    expect(first).not.toEqual(base);
    const acting = (count: number) => [{ adapter, tokens: { first: 0, count } }];
    expectScored(alone[0]!.prompt, [], 0, acting(40));
    expectScored(alone[0]!.choices[0]!, PROMPT, 0, acting(40 + alone[0]!.choices[0]!.ids.length));
  });
});

test('a seed draws the same tokens again, and another seed others', async () => {
  const [first, second, other] = [await sample({ n: 2 }), await sample({ n: 2 }), await sample({ n: 2, seed: 2 })];
  expect(second).toEqual(first);
  expect(other.choices).not.toEqual(first.choices);
});

describe('a choice ends', () => {
  test('with a stop token, which is its last', async () => {
    const free = (await sample({ max_tokens: 40 })).choices[0]!;
    const stop = free.ids[9]!;
    const expected = free.ids.slice(0, free.ids.indexOf(stop) + 1);
    const { choices, counts } = await sample({ max_tokens: 40 }, { stop_tokens: [stop, VOCAB + 5] });
    expect(choices[0]).toMatchObject({ ids: expected, reason: 'stop' });
    expect(counts!.completion).toBe(expected.length);
    expectScored(choices[0]!, PROMPT, 0);
    // Also where it is the last that may come.
    const last = await sample({ max_tokens: expected.length }, { stop_tokens: [stop] });
    expect(last.choices[0]).toMatchObject({ ids: expected, reason: 'stop' });
  });

  test('with the end of text of the model, unless that does not end it', async () => {
    const ask = (ends_itself: boolean) => sample({ n: 8, max_tokens: 80, temperature: 2 }, { ends_itself });
    const [free, own] = [await ask(false), await ask(true)];
    expect(free.choices.map(({ ids, reason }) => [ids.length, reason])).toEqual(new Array(8).fill([80, 'length']));
    expect(free.choices.some(({ ids }) => ids.slice(0, -1).includes(END))).toBe(true);
    for (const [i, { ids, reason }] of own.choices.entries()) {
      const end = free.choices[i]!.ids.indexOf(END);
      expect(ids).toEqual(free.choices[i]!.ids.slice(0, end === -1 ? 80 : end + 1));
      expect(reason).toBe(end === -1 ? 'length' : 'stop');
    }
  });

  test('with the token that completes a stop text', async () => {
    const free = (await sample({ max_tokens: 40 })).choices[0]!;
    const textOf = (ids: number[]) => tokenizer.decode(ids, { skipSpecialTokens: false });
    const stop = textOf(free.ids).slice(4, 7);
    expect(stop).toHaveLength(3);
    const { choices, counts } = await sample({ max_tokens: 40, stop: ['no such text', stop] });
    const { ids, reason } = choices[0]!;
    expect(reason).toBe('stop');
    expect(ids).toEqual(free.ids.slice(0, ids.length));
    expect(textOf(ids).endsWith(stop)).toBe(true);
    expect(textOf(ids.slice(0, -1))).not.toContain(stop);
    expect(counts!.completion).toBe(ids.length);
  });
});

describe('it is refused before anything is computed', () => {
  test('a token that the model has not', async () => {
    const asked = sample({}, { prompt: [5, 6, VOCAB] });
    await expect(asked).rejects.toMatchObject({ code: 'invalid_request', param: 'prompt' });
    await expect(asked).rejects.toThrow(
      'The token at position 2 of the prompt is 160; the model has 160 tokens, from 0.',
    );
    expect(host.hasWork()).toBe(false);
  });

  test('a prompt that is too long', async () => {
    const asked = sample({ max_tokens: 1 }, { prompt: new Array(256).fill(5) });
    await expect(asked).rejects.toMatchObject({ code: 'context_length_exceeded', param: 'prompt' });
    const { choices } = await sample({ max_tokens: 9 }, { prompt: new Array(255).fill(5) });
    expect(choices[0]).toMatchObject({ ids: [expect.any(Number)], reason: 'length' });
  });
});
