import { readModelFolder } from '@lorasmith/model-folder';
import { chooseKernels, engine, liveTensorCount, scope, toFloat32Array } from '@lorasmith/tensor';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { adapterOf, BiasAdapter } from '../../test/bias-adapter.js';
import { passLogprobs } from '../../test/pass-logprobs.js';
import { tinyDecoder } from '../../test/tiny-decoder.js';
import type { Decoder } from '../decoder/decoder.js';
import { loadDecoder } from '../decoder/load-decoder.js';
import type { ModelAdapter } from '../pass.js';
import { Generation } from './generation.js';
import { type GenerationEvent, NotFiniteError, type PromptRequest, type ScoredToken } from './request.js';

let decoder: Decoder;
let before: number;
const kernels = chooseKernels('fused');
beforeEach(() => {
  before = liveTensorCount();
  decoder = tinyDecoder(kernels);
});
afterEach(() => {
  decoder.dispose();
  expect(liveTensorCount()).toBe(before);
});

const idsOf = (length: number, first: number) => Int32Array.from({ length }, (_, i) => (first + 7 * i) % 23);

function aRequest(changed: Partial<PromptRequest> = {}): PromptRequest {
  return { promptIds: idsOf(9, 1), adapter: null, maxNewTokens: 12, stopIds: [], ...changed };
}

/** All events of requests that run together, in the order of the requests. */
function eventsOf(
  requests: readonly PromptRequest[],
  options: { cacheTokens?: number; maxTexts?: number } = {},
  model: Decoder = decoder,
): GenerationEvent[][] {
  const generation = new Generation(model, { cacheTokens: 2048, maxTexts: 16, ...options });
  const events = requests.map((): GenerationEvent[] => []);
  for (const [i, request] of requests.entries()) generation.add(request, (event) => events[i]!.push(event));
  while (generation.hasWork) generation.step();
  generation.dispose();
  return events;
}

const tokensOf = (events: readonly GenerationEvent[], choice = 0) =>
  events.flatMap((event) => (event.kind === 'token' && event.choice === choice ? [event.id] : []));

/** An adapter that adds to the queries, keys and values of the first layer, or to another group. */
function biasAdapter(
  bias: (i: number) => number,
  [group] = decoder.groups,
): { adapter: ModelAdapter; dispose(): void } {
  const own = new BiasAdapter(group!);
  own.setBias(Float32Array.from({ length: group!.linear.outFeatures }, (_, i) => bias(i)));
  return { adapter: adapterOf([[group!, own]]), dispose: () => own.dispose() };
}

describe.each(['float32', 'bfloat16'] as const)('a request in %s', (dtype) => {
  test.runIf(engine.kind === 'cpu')('has the same events alone and beside other texts, to the last bit', () => {
    const model = tinyDecoder(kernels, dtype);
    const requests = [
      aRequest({ logprobs: 2, promptLogprobs: 1, promptIds: idsOf(70, 3), maxNewTokens: 40 }),
      aRequest({ sampling: { temperature: 1, topP: 1, seed: 3 }, logprobs: 0 }),
      aRequest({ sampling: { temperature: 1.5, topP: 0.8, seed: 4 }, promptIds: idsOf(33, 5), maxNewTokens: 31 }),
      aRequest({ promptIds: idsOf(1, 2), choices: 3, sampling: { temperature: 2, topP: 1, seed: 5 } }),
      aRequest({ promptIds: idsOf(100, 2), maxNewTokens: 0, promptLogprobs: 2 }),
    ];
    const together = eventsOf(requests, {}, model);
    for (const [i, request] of requests.entries()) {
      expect(eventsOf([request], {}, model)[0]!.filter(({ kind }) => kind !== 'failed')).toEqual(together[i]);
    }
    // Some wait for others, and read their prompts in other pieces.
    expect(eventsOf(requests, { cacheTokens: 192, maxTexts: 3 }, model)).toEqual(together);
    model.dispose();
  });
});

test('texts with adapters of their own and without one, in one pass', () => {
  const [first, second] = [biasAdapter((i) => Math.sin(i)), biasAdapter((i) => 2 * Math.cos(i))];
  const requests = [first.adapter, null, second.adapter, first.adapter].map((adapter, i) =>
    aRequest({ adapter, promptIds: idsOf(9 + i, 1) }),
  );
  const together = eventsOf(requests).map((events) => tokensOf(events));
  expect(together).toEqual(requests.map((request) => tokensOf(eventsOf([request])[0]!)));
  const withoutAdapters = eventsOf(requests.map((request) => ({ ...request, adapter: null })));
  expect(together[0]).not.toEqual(tokensOf(withoutAdapters[0]!));
  expect(together[2]).not.toEqual(tokensOf(withoutAdapters[2]!));
  first.dispose();
  second.dispose();
});

test('choices share the pages of a prompt, and draw for themselves', () => {
  const sampling = { temperature: 1.5, topP: 1, seed: 11 };
  const request = aRequest({ promptIds: idsOf(70, 3), choices: 4, sampling });
  // Two shared pages, and one for each choice; without sharing it would be twelve.
  const [events] = eventsOf([request], { cacheTokens: 6 * 32, maxTexts: 4 });
  const texts = [0, 1, 2, 3].map((choice) => tokensOf(events!, choice));
  expect(texts.map((ids) => ids.length)).toEqual([12, 12, 12, 12]);
  expect(new Set(texts.map((ids) => ids.join())).size).toBe(4);
  expect(texts[0]).toEqual(tokensOf(eventsOf([{ ...request, choices: 1 }])[0]!));
  expect(eventsOf([{ ...request, sampling: { ...sampling, seed: 12 } }])[0]).not.toEqual(events);
});

test.each([0, 5, 40])(
  'when the first choice is cancelled after %i tokens of its prompt, the others continue',
  (read) => {
    const request = aRequest({ promptIds: idsOf(70, 3), choices: 3, sampling: { temperature: 1, topP: 1, seed: 1 } });
    const [expected] = eventsOf([request]);
    const generation = new Generation(decoder, { cacheTokens: 5 * 32, maxTexts: 3 });
    const events: GenerationEvent[] = [];
    const handle = generation.add(request, (event) => events.push(event));
    if (read > 0) generation.step();
    if (read > 32) generation.step();
    handle.cancel(0);
    while (generation.hasWork) generation.step();
    for (const choice of [1, 2]) expect(tokensOf(events, choice)).toEqual(tokensOf(expected!, choice));
    expect(tokensOf(events, 0).length).toBeLessThan(12);
    generation.dispose();
  },
);

test('a request that does not fit waits; none passes it; what is cancelled makes room', () => {
  const generation = new Generation(decoder, { cacheTokens: 4 * 32, maxTexts: 8 });
  const order: string[] = [];
  const add = (name: string, maxNewTokens: number) =>
    generation.add(aRequest({ maxNewTokens }), ({ kind }) => kind === 'ended' && order.push(name));
  add('first', 60);
  const second = add('large', 100);
  add('small', 3);
  generation.step();
  generation.step();
  expect(order).toEqual([]);
  second.cancel();
  second.cancel();
  while (generation.hasWork) generation.step();
  expect(order).toEqual(['small', 'first']);
  generation.dispose();
});

test('a listener can cancel its request, and add another', () => {
  const generation = new Generation(decoder, { cacheTokens: 128, maxTexts: 2 });
  const ids: number[] = [];
  const handle = generation.add(aRequest(), (event) => {
    if (event.kind !== 'token') return;
    ids.push(event.id);
    if (ids.length === 3) {
      handle.cancel();
      generation.add(aRequest({ maxNewTokens: 2 }), (later) => later.kind === 'token' && ids.push(later.id));
    }
  });
  while (generation.hasWork) generation.step();
  expect(ids).toHaveLength(5);
  expect(ids.slice(3)).toEqual(ids.slice(0, 2));
  generation.dispose();
});

test.each(['a layer', 'the output head'])('numbers of %s that are not finite end their request alone', (place) => {
  const broken = biasAdapter((i) => (i === 3 ? Number.NaN : 0), place === 'a layer' ? undefined : [decoder.head.group]);
  const requests = [
    aRequest(),
    aRequest({ adapter: broken.adapter, choices: 2 }),
    aRequest({ promptIds: idsOf(5, 2) }),
  ];
  const events = eventsOf(requests);
  expect(events[1]).toEqual([{ kind: 'failed', error: expect.any(NotFiniteError) }]);
  const others = eventsOf([requests[0]!, requests[2]!]);
  expect([events[0], events[2]]).toEqual(others);
  expect(eventsOf([aRequest({ adapter: broken.adapter, logprobs: 2 })])[0]).toEqual(events[1]);
  // Its pages are used again.
  expect(eventsOf([requests[1]!, requests[0]!], { cacheTokens: 64, maxTexts: 2 })[1]).toEqual(others[0]);
  broken.dispose();
});

test('an error of the engine ends the texts of the pass; the next run', () => {
  const generation = new Generation(decoder, { cacheTokens: 64, maxTexts: 2 });
  const events: GenerationEvent[] = [];
  const failing: ModelAdapter = {
    at: () => {
      throw new Error('no memory');
    },
  };
  generation.add(aRequest({ adapter: failing }), (event) => events.push(event));
  generation.step();
  expect(events).toEqual([{ kind: 'failed', error: expect.objectContaining({ message: 'no memory' }) }]);
  expect(generation.hasWork).toBe(false);
  generation.add(aRequest(), (event) => events.push(event));
  while (generation.hasWork) generation.step();
  expect(events.slice(1)).toEqual(eventsOf([aRequest()])[0]);
  generation.dispose();
});

test('scoring a prompt alone: one event for each token after the first', () => {
  const [events] = eventsOf([aRequest({ maxNewTokens: 0, promptLogprobs: 0, stopIds: [...idsOf(23, 0)] })]);
  expect(events!.map(({ kind }) => kind)).toEqual([...new Array<string>(8).fill('prompt-scored'), 'ended']);
  expect(events!.at(-1)).toEqual({ kind: 'ended', choice: 0, reason: 'length' });
  const scored = events!.flatMap((event) => (event.kind === 'prompt-scored' ? [event] : []));
  expect(scored.map(({ position }) => position)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(scored.map(({ token }) => token.id)).toEqual([...idsOf(9, 1)].slice(1));
});

describe.each(['float32', 'bfloat16'] as const)('log-probabilities in %s', (dtype) => {
  let model: Decoder;
  beforeEach(() => {
    model = tinyDecoder(kernels, dtype);
  });
  afterEach(() => model.dispose());

  const DIGITS = dtype === 'float32' ? 4 : 1;

  test('of a prompt and of one token after it are those of a pass over the whole, with the most probable tokens', () => {
    const promptIds = idsOf(70, 3);
    const sampling = { temperature: 1.7, topP: 0.9, topK: 5, repetitionPenalty: 1.3, seed: 2 };
    const request = aRequest({ promptIds, maxNewTokens: 1, promptLogprobs: 4, logprobs: 3, choices: 3, sampling });
    const [events] = eventsOf([request], {}, model);
    const expected = passLogprobs(model, promptIds);
    const scored = events!.flatMap((event) => (event.kind === 'prompt-scored' ? [event] : []));
    expect(scored.map(({ position }) => position)).toEqual(Array.from({ length: 69 }, (_, i) => i + 1));
    const check = (position: number, { id, logprob, top }: ScoredToken, count: number) => {
      const row = expected[position - 1]!;
      expect(logprob).toBeCloseTo(row[id]!, DIGITS);
      const sorted = [...row].sort((a, b) => b - a).slice(0, count);
      expect(new Set(top.map((one) => one.id)).size).toBe(count);
      for (const [place, one] of top.entries()) {
        expect(one.logprob).toBeCloseTo(sorted[place]!, DIGITS);
        expect(one.logprob).toBeCloseTo(row[one.id]!, DIGITS);
      }
    };
    for (const { position, token } of scored) check(position, token, 4);
    const sampled = events!.flatMap((event) => (event.kind === 'token' ? [event.scored!] : []));
    expect(sampled).toHaveLength(3);
    for (const token of sampled) check(70, token, 3);
  });

  test('of the last tokens of a prompt are the same without the others', () => {
    const request = aRequest({ promptIds: idsOf(70, 3), promptLogprobs: 2 });
    const [all] = eventsOf([request], {}, model);
    for (const promptLast of [1, 2, 40, 69, 70, 1_000]) {
      const [last] = eventsOf([{ ...request, promptLast }], {}, model);
      expect(last).toEqual(all!.filter((event) => event.kind !== 'prompt-scored' || event.position >= 70 - promptLast));
    }
  });
});

test.each([
  ['an empty prompt', { promptIds: new Int32Array(0) }, /no tokens/],
  ['an id that the model has not', { promptIds: Int32Array.of(3, 23) }, /23 tokens, none with id 23/],
  ['more tokens than the cache has', { maxNewTokens: 130 }, /cache for 160 tokens; there is one for 128/],
  ['more choices than run at once', { choices: 3 }, /3 choices; at most 2/],
])('%s is refused', (_, changed, message) => {
  const generation = new Generation(decoder, { cacheTokens: 128, maxTexts: 2 });
  expect(() => generation.add(aRequest(changed), () => {})).toThrow(message);
  expect(generation.hasWork).toBe(false);
  generation.dispose();
});

test('choices whose texts are read again by another rope do not share pages', async () => {
  const folder = new URL('../../../../test/fixtures/families/rope-longrope/base', import.meta.url).pathname;
  const model = await loadDecoder(await readModelFolder(folder), 'float32', kernels);
  // From within the original 16 positions to beyond two pages.
  const request = aRequest({ promptIds: idsOf(12, 3), choices: 2, maxNewTokens: 60 });
  const [events] = eventsOf([request], { cacheTokens: 192, maxTexts: 2 }, model);
  expect(tokensOf(events!, 0)).toHaveLength(60);
  expect(tokensOf(events!, 1)).toEqual(tokensOf(events!, 0));
  model.dispose();
});

// Engines for GPUs refuse it.
describe.runIf(engine.kind === 'cpu')('a model with linear attention', () => {
  let model: Decoder;
  beforeAll(async () => {
    const folder = new URL('../../../../test/fixtures/families/qwen3_5-text/base', import.meta.url).pathname;
    model = await loadDecoder(await readModelFolder(folder), 'float32', kernels);
  });
  afterAll(() => model.dispose());

  test('gives the tokens that come of reading everything at once, whatever is beside a text', () => {
    const requests = [
      aRequest({ promptIds: idsOf(70, 3), maxNewTokens: 70, logprobs: 0 }),
      aRequest({ promptIds: idsOf(1, 2), maxNewTokens: 5, logprobs: 0 }),
      aRequest({ promptIds: idsOf(100, 5), maxNewTokens: 3, logprobs: 0 }),
    ];
    const together = eventsOf(requests, {}, model);
    for (const [i, request] of requests.entries()) {
      expect(eventsOf([request], {}, model)[0]).toEqual(together[i]);
      const ids = Int32Array.of(...request.promptIds, ...tokensOf(together[i]!));
      const logits = scope(() => toFloat32Array(model.logits({ ids, rowLengths: [ids.length] })));
      const vocab = model.architecture.vocabSize;
      for (let at = request.promptIds.length; at < ids.length; at++) {
        const row = logits.subarray((at - 1) * vocab, at * vocab);
        expect(row[ids[at]!]).toBeCloseTo(Math.max(...row), 4);
      }
    }
  });

  test('has choices that continue from the states of a shared prompt', () => {
    const request = aRequest({ promptIds: idsOf(70, 3), maxNewTokens: 20 });
    const alone = tokensOf(eventsOf([request], {}, model)[0]!);
    // Two shared pages, and one for each choice.
    const [events] = eventsOf([{ ...request, choices: 3 }], { cacheTokens: 5 * 32, maxTexts: 3 }, model);
    for (const choice of [0, 1, 2]) expect(tokensOf(events!, choice)).toEqual(alone);
  });

  test.each([0, 1, 2, 3])('has choices that continue when the first is cancelled after %i steps', (steps) => {
    const request = aRequest({ promptIds: idsOf(70, 3), maxNewTokens: 20 });
    const alone = tokensOf(eventsOf([request], {}, model)[0]!);
    const generation = new Generation(model, { cacheTokens: 5 * 32, maxTexts: 3 });
    const events: GenerationEvent[] = [];
    const handle = generation.add({ ...request, choices: 3 }, (event) => events.push(event));
    for (let step = 0; step < steps; step++) generation.step();
    handle.cancel(0);
    while (generation.hasWork) generation.step();
    for (const choice of [1, 2]) expect(tokensOf(events, choice)).toEqual(alone);
    generation.dispose();
  });

  test('frees the states of texts that end, are cancelled, or are left', () => {
    const tensors = liveTensorCount();
    const generation = new Generation(model, { cacheTokens: 1024, maxTexts: 8 });
    const empty = liveTensorCount();
    generation.add(aRequest(), () => {});
    generation.add(aRequest({ choices: 2 }), () => {}).cancel();
    while (generation.hasWork) generation.step();
    expect(liveTensorCount()).toBe(empty);
    generation.add(aRequest(), () => {});
    generation.step();
    generation.dispose();
    expect(liveTensorCount()).toBe(tensors);
  });
});

test('penalties count the new tokens of each choice, and those of the prompt for repetition', () => {
  const free = tokensOf(eventsOf([aRequest()])[0]!);
  const sampling = (changes: object) => ({ temperature: 0, topP: 1, seed: 1, ...changes });
  // No penalty is the most probable token; a very high one never takes a token twice.
  expect(tokensOf(eventsOf([aRequest({ sampling: sampling({ presencePenalty: 0 }) })])[0]!)).toEqual(free);
  const penalized = aRequest({ sampling: sampling({ presencePenalty: 1e4 }), choices: 2 });
  const [events] = eventsOf([penalized]);
  for (const choice of [0, 1]) {
    const ids = tokensOf(events!, choice);
    expect(new Set(ids).size).toBe(12);
  }
  const repeated = tokensOf(eventsOf([aRequest({ sampling: sampling({ repetitionPenalty: 1e-6 }) })])[0]!);
  const prompt = [...idsOf(9, 1)];
  expect(repeated.every((id, index) => [...prompt, ...repeated.slice(0, index)].includes(id))).toBe(true);
});

test('a constraint decides which tokens may come and when a text is complete, beside other texts', () => {
  const others = [aRequest(), aRequest({ sampling: { temperature: 1, topP: 1, seed: 4 }, logprobs: 1 })];
  const alone = others.map((request) => eventsOf([request])[0]!);
  const wanted = [3, 1, 4, 1, 5];
  const constraint = () => {
    let at = 0;
    return {
      allowed: () => Uint32Array.of(1 << wanted[at]!),
      accept: () => {
        at++;
      },
      get isComplete() {
        return at === wanted.length;
      },
    };
  };
  const failing = () => ({
    allowed: (): Uint32Array => {
      throw new Error('No token is left.');
    },
    accept: () => {},
    isComplete: false,
  });
  const requests = [...others, aRequest({ constraint, choices: 2, logprobs: 0 }), aRequest({ constraint: failing })];
  const [first, second, constrained, failed] = eventsOf(requests);
  expect([first, second]).toEqual(alone);
  for (const choice of [0, 1]) expect(tokensOf(constrained!, choice)).toEqual(wanted);
  expect(constrained!.filter(({ kind }) => kind === 'ended')).toEqual(
    [0, 1].map((choice) => ({ kind: 'ended', choice, reason: 'stop' })),
  );
  expect(failed).toEqual([{ kind: 'failed', error: new Error('No token is left.') }]);
});
