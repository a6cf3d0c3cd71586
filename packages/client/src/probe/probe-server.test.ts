import type { AdapterManifest, AdapterProbe, TokenProbe } from '@lorasmith/contracts';
import { describe, expect, it } from 'vitest';
import { type Answer, json, type ReceivedRequest, serve } from '../../test/http-server.js';
import { probeServer } from './probe-server.js';

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
