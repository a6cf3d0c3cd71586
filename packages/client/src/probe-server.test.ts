import type { AdapterManifest, AdapterProbe, ProbeCase, TokenProbe } from '@lorasmith/contracts';
import { describe, expect, it } from 'vitest';
import { type Answer, json, type ReceivedRequest, serve } from '../test/http-server.js';
import { judgeProbe, type NextTokenAnswer, probeServer } from './probe-server.js';

const ID = 'ad_0123456789abcdef01234567';
const PROBE: TokenProbe = {
  kind: 'next-token',
  precision: 'float32',
  cases: [
    {
      prompt: 'The date is',
      token_ids: [1, 2, 3],
      next_tokens: [
        { id: 10, text: ' 2021', base_logprob: -3.1, adapter_logprob: -0.2 },
        { id: 11, text: ' March', base_logprob: -0.3, adapter_logprob: -2.4 },
      ],
    },
    {
      prompt: 'It is due on',
      token_ids: [7, 8],
      next_tokens: [
        { id: 10, text: ' 2021', base_logprob: -2.0, adapter_logprob: -0.1 },
        { id: 13, text: ' Monday', base_logprob: -0.4, adapter_logprob: -4.0 },
      ],
    },
  ],
};
const manifestWith = (probe: AdapterProbe) =>
  ({ id: ID, name: 'dates', origin: { kind: 'trained', probe } }) as AdapterManifest;

interface CompletionsRequest {
  model: string;
  prompt: string | number[];
  logprobs?: number;
  max_tokens: number;
  temperature: number;
}

type Served = 'adapter' | 'base';

/** The expected answer of a server with this model, or undefined if the prompt is not from the probe. */
function saysOf(served: Served, { prompt }: CompletionsRequest) {
  const found = PROBE.cases.find(
    (one) => one.prompt === prompt || JSON.stringify(one.token_ids) === JSON.stringify(prompt),
  );
  const tokens = found?.next_tokens.map(({ id, text, ...of }) => ({
    id,
    token: text,
    logprob: of[`${served}_logprob`],
  }));
  return tokens?.sort((one, other) => other.logprob - one.logprob);
}

const refuse = (message: string): Answer => json(400, { object: 'error', message, type: 'BadRequestError', code: 400 });

/** Answers in the format of one kind of server. */
function completions(kind: 'vllm' | 'llama.cpp' | 'ollama', served: Served): Answer {
  return (response, request) => {
    const answer = (() => {
      if (request.url === '/v1/models') return json(200, { object: 'list', data: [{ id: 'base' }, { id: ID }] });
      const asked = JSON.parse(request.body) as CompletionsRequest;
      if (asked.max_tokens !== 1 || asked.temperature !== 0) return refuse('not a probe');
      if (kind === 'ollama' && typeof asked.prompt !== 'string') return refuse('cannot unmarshal array into string');
      const says = saysOf(served, asked);
      if (says === undefined) return refuse('not a prompt of the probe');
      const text = says[0]!.token;
      if (kind === 'ollama' || asked.logprobs === undefined) return json(200, { choices: [{ text }] });
      const logprobs =
        kind === 'vllm'
          ? { tokens: [text], top_logprobs: [Object.fromEntries(says.map(({ token, logprob }) => [token, logprob]))] }
          : { content: [{ ...says[0], top_logprobs: says }] };
      return json(200, { choices: [{ text, logprobs }] });
    })();
    return answer(response, request);
  };
}

const bodies = (requests: ReceivedRequest[]) =>
  requests.filter(({ method }) => method === 'POST').map(({ body }) => JSON.parse(body) as CompletionsRequest);

describe.each(['vllm', 'llama.cpp'] as const)('a server like %s', (kind) => {
  it.each(['adapter', 'base'] as const)('that has the %s is recognized by its log-probabilities', async (served) => {
    const server = await serve(completions(kind, served));
    const result = await probeServer(manifestWith(PROBE), { url: `${server.baseUrl}/v1` });
    expect(result).toMatchObject({ verdict: served, model: ID, adapter: ID });
    expect(served === 'adapter' ? result.adapter_distance : result.base_distance).toBeCloseTo(0, 6);
    expect(bodies(server.requests).map(({ model, prompt }) => ({ model, prompt }))).toEqual(
      PROBE.cases.map(({ token_ids }) => ({ model: ID, prompt: token_ids })),
    );
  });
});

describe('a server like Ollama', () => {
  it.each(['adapter', 'base'] as const)(
    'a server like Ollama that has the %s is recognized by its words',
    async (served) => {
      const server = await serve(completions('ollama', served));
      const result = await probeServer(manifestWith(PROBE), { url: `${server.baseUrl}/v1/`, model: 'dates' });
      expect(result).toMatchObject({ verdict: served, model: 'dates', adapter_distance: null });
      // The server refused token ids once; later requests use text.
      expect(bodies(server.requests).map(({ prompt }) => prompt)).toEqual([
        PROBE.cases[0]!.token_ids,
        PROBE.cases[0]!.prompt,
        PROBE.cases[1]!.prompt,
      ]);
    },
  );
});

it('requests no probabilities from a server that refuses them', async () => {
  const server = await serve((response, request) => {
    const { logprobs } = JSON.parse(request.body) as CompletionsRequest;
    const answer = logprobs === undefined ? completions('vllm', 'adapter') : refuse('logprobs is not supported');
    return answer(response, request);
  });
  const result = await probeServer(manifestWith(PROBE), { url: `${server.baseUrl}/v1`, model: ID });
  expect(result).toMatchObject({ verdict: 'adapter', adapter_distance: null });
});

it('sends the key', async () => {
  const server = await serve(completions('vllm', 'adapter'));
  await probeServer(manifestWith(PROBE), { url: `${server.baseUrl}/v1`, apiKey: 'sk-1' });
  expect(server.requests.map(({ headers }) => headers.authorization)).toEqual(Array(3).fill('Bearer sk-1'));
});

describe('fails', () => {
  it('when the server has several models and none is selected', async () => {
    const server = await serve(json(200, { data: [{ id: 'one' }, { id: 'other' }] }));
    await expect(probeServer(manifestWith(PROBE), { url: server.baseUrl })).rejects.toMatchObject({
      code: 'invalid_request',
      message: 'The server has one, other: select one with --model.',
    });
  });

  it.each([
    [json(200, { hello: 'world' }), 'service_unavailable', /did not answer as OpenAI's completions API does/],
    [json(200, { choices: [{ message: { content: 'hi' } }] }), 'service_unavailable', /completions API/],
    [json(404, { detail: 'Not Found' }), 'not_found', /404/],
    [refuse('the model does not exist'), 'invalid_request', /400/],
  ] as const)('when the server answers in another format (%#)', async (answer, code, message) => {
    const server = await serve(answer);
    await expect(probeServer(manifestWith(PROBE), { url: server.baseUrl, model: ID })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it.each([
    [{ kind: 'imported' }, /imported/],
    [{ kind: 'trained', probe: { kind: 'class-scores', precision: 'float32', cases: [] } }, /classifier/],
    [{ kind: 'trained', probe: { kind: 'next-token', precision: 'float32', cases: [] } }, /no probe/],
  ] as const)('without a probe for text generation (%#)', async (origin, message) => {
    const manifest = { ...manifestWith(PROBE), origin } as unknown as AdapterManifest;
    const result = probeServer(manifest, { url: 'http://127.0.0.1:9/v1' });
    await expect(result).rejects.toMatchObject({ code: 'not_found', message: expect.stringMatching(message) });
  });
});

const CASES: ProbeCase[] = [
  {
    prompt: 'The date is',
    token_ids: [1, 2, 3],
    next_tokens: [
      { id: 10, text: ' 2021', base_logprob: -3.1, adapter_logprob: -0.2 },
      { id: 11, text: ' March', base_logprob: -0.3, adapter_logprob: -2.4 },
      { id: 12, text: ' the', base_logprob: -2.2, adapter_logprob: -3.5 },
    ],
  },
  {
    prompt: 'I am',
    token_ids: [4, 5],
    next_tokens: [
      { id: 20, text: ' sorry', base_logprob: -0.9, adapter_logprob: -0.4 },
      { id: 21, text: ' here', base_logprob: -1.0, adapter_logprob: -1.6 },
    ],
  },
];

/** The answers of a server with this model. Its log-probabilities alternately differ by `noise` and `-noise`. */
function answersOf(
  served: Served,
  { noise = 0, ids = true, spelled = (text: string) => text } = {},
): NextTokenAnswer[] {
  return CASES.map(({ next_tokens }) => {
    const tokens = next_tokens.map(({ id, text, ...logprobs }, i) => ({
      id: ids ? id : null,
      text: spelled(text),
      logprob: logprobs[`${served}_logprob`] + (i % 2 === 0 ? noise : -noise),
    }));
    tokens.sort((one, other) => other.logprob - one.logprob);
    return { text: tokens[0]!.text, tokens };
  });
}

const words = (answers: NextTokenAnswer[]) => answers.map(({ text }) => ({ text, tokens: null }));

describe('with log-probabilities', () => {
  it.each([
    ['adapter', {}],
    ['base', {}],
    ['adapter', { noise: 0.2 }],
    ['base', { noise: 0.2 }],
    ['adapter', { ids: false }],
    ['adapter', { ids: false, spelled: (text: string) => text.replace(' ', '▁') }],
    ['base', { ids: false, spelled: (text: string) => text.trim() }],
  ] as const)('recognizes the %s with %o', (served, how) => {
    const { verdict, adapter_distance, base_distance } = judgeProbe(CASES, answersOf(served, how));
    expect(verdict).toBe(served);
    const own = served === 'adapter' ? adapter_distance! : base_distance!;
    expect(own).toBeCloseTo('noise' in how ? how.noise : 0, 6);
    expect(Math.max(adapter_distance!, base_distance!)).toBeGreaterThan(1);
  });

  describe('of tokens that differ only in a space, from a server that returns only texts', () => {
    const pairs: ProbeCase[] = [
      {
        prompt: 'Who?',
        token_ids: [1],
        next_tokens: [
          { id: 30, text: 'I', base_logprob: -4.0, adapter_logprob: -0.3 },
          { id: 31, text: ' I', base_logprob: -1.2, adapter_logprob: -6.0 },
          { id: 32, text: 'We', base_logprob: -2.0, adapter_logprob: -2.5 },
          { id: 33, text: ' We', base_logprob: -2.6, adapter_logprob: -7.0 },
        ],
      },
    ];
    const answers = (served: Served, spelled: (text: string) => string, most = 4): NextTokenAnswer[] =>
      pairs.map(({ next_tokens }) => {
        const tokens = next_tokens.map((token) => ({
          id: null,
          text: spelled(token.text),
          logprob: token[`${served}_logprob`],
        }));
        tokens.sort((one, other) => other.logprob - one.logprob);
        return { text: tokens[0]!.text, tokens: tokens.slice(0, most) };
      });

    it.each([
      ['adapter', 'all of them', (text: string) => text, 4],
      ['adapter', 'the first two', (text: string) => text, 2],
      ['base', 'the first two', (text: string) => text, 2],
      ['adapter', 'all of them without spaces', (text: string) => text.trim(), 4],
      ['base', 'the first two without spaces', (text: string) => text.trim(), 2],
    ] as const)('recognizes the %s by %s', (served, _, spelled, most) => {
      const judged = judgeProbe(pairs, answers(served, spelled, most));
      expect(judged.verdict).toBe(served);
      expect(served === 'adapter' ? judged.adapter_distance : judged.base_distance).toBeCloseTo(0, 6);
    });
  });

  it('recognizes another model as neither', () => {
    const other = answersOf('adapter').map(({ tokens }) => ({
      text: 'x',
      tokens: tokens!.map((token, i) => ({ ...token, id: 1000 + i, text: `other ${i}` })),
    }));
    expect(judgeProbe(CASES, other).verdict).toBe('neither');
    expect(judgeProbe(CASES, answersOf('adapter', { noise: 0.8 })).verdict).toBe('neither');
    expect(judgeProbe(CASES, answersOf('adapter', { noise: 0.8 }), 1).verdict).toBe('adapter');
  });

  it('leaves out a text that the server ends at once', () => {
    const ended: NextTokenAnswer = { text: '', tokens: null };
    for (const served of ['adapter', 'base'] as const) {
      const { verdict, ...distances } = judgeProbe(CASES, [ended, ...answersOf(served).slice(1)]);
      expect(verdict).toBe(served);
      expect(distances[`${served}_distance`]).toBeCloseTo(0, 6);
    }
    expect(judgeProbe(CASES, [ended, ended])).toMatchObject({ verdict: 'undecided', adapter_distance: null });
    expect(judgeProbe(CASES, [ended, ...words(answersOf('adapter')).slice(1)]).adapter_distance).toBeNull();
  });

  it('is undecided if adapter and base hardly differ', () => {
    const alike = CASES.map((one) => ({
      ...one,
      next_tokens: one.next_tokens.map((token) => ({ ...token, base_logprob: token.adapter_logprob + 0.01 })),
    }));
    expect(judgeProbe(alike, answersOf('adapter', { noise: 0.05 })).verdict).toBe('undecided');
  });

  it('adds no distance for a token that the probe lacks if it is less likely than those of the probe', () => {
    const others = ['I', 'The', 'It', 'You'].map((text, i) => {
      return { id: 40 + i, text, base_logprob: -1 - i, adapter_logprob: -9 - i };
    });
    const [first] = CASES;
    const long = [{ ...first!, next_tokens: [...first!.next_tokens, ...others] }];
    const tokens = long[0]!.next_tokens
      .map(({ id, text, base_logprob }) => ({ id, text, logprob: base_logprob }))
      .sort((one, other) => other.logprob - one.logprob)
      .slice(0, 4);
    const answer = { text: tokens[0]!.text, tokens: [...tokens, { id: 99, text: 'So', logprob: -3.2 }] };
    expect(judgeProbe(long, [answer]).base_distance).toBeLessThan(0.2);
  });

  it('adds distance for likely tokens that the server does not return', () => {
    const short = answersOf('base').map(({ text, tokens }) => ({ text, tokens: tokens!.slice(0, 1) }));
    const { verdict, adapter_distance } = judgeProbe(CASES, short);
    expect(verdict).toBe('base');
    expect(adapter_distance).toBeGreaterThan(0.5);
  });
});

describe('with words only', () => {
  it('compares the cases in which adapter and base clearly differ', () => {
    expect(judgeProbe(CASES, words(answersOf('adapter')))).toMatchObject({
      verdict: 'adapter',
      adapter_distance: null,
      cases: [{ answered: ' 2021', adapter: ' 2021', base: ' March' }, { answered: ' sorry' }],
    });
    expect(judgeProbe(CASES, words(answersOf('base'))).verdict).toBe('base');
    expect(judgeProbe(CASES, [{ text: ' Tuesday', tokens: null }, ...words(answersOf('base')).slice(1)]).verdict).toBe(
      'neither',
    );
  });

  it('is undecided without such a case', () => {
    const [, alike] = CASES;
    expect(judgeProbe([alike!], [{ text: 'sorry', tokens: null }]).verdict).toBe('undecided');
    expect(judgeProbe([alike!], [{ text: 'glad', tokens: null }]).verdict).toBe('neither');
  });
});
