import { createHash } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import { chatRows, type OpenaiServer, openaiJob, startOpenaiServer } from '../../../../test/openai-server.js';
import { addressOf, OpenaiWire, type OpenaiWireOptions } from './openai-wire.js';

const KEY = 'sk-test-key';

async function start(options: OpenaiWireOptions = {}) {
  const server = await startOpenaiServer();
  onTestFinished(server.close);
  const waits: number[] = [];
  const wait = async (ms: number) => void waits.push(ms);
  const wire = new OpenaiWire({ baseUrl: server.baseUrl, apiKey: KEY, wait, ...options });
  return { server, wire, waits };
}

/** Fails the first calls of a path. */
function failing(server: OpenaiServer, times: number, fault: ReturnType<OpenaiServer['onRequest']>): void {
  let left = times;
  server.onRequest = () => (left-- > 0 ? fault : null);
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const one of items) found.push(one);
  return found;
}

const textOf = async (chunks: AsyncIterable<Uint8Array>) => Buffer.concat(await all(chunks)).toString();

describe("OpenAI's wire", () => {
  it('lists the jobs of all pages', async () => {
    const { server, wire } = await start();
    server.jobs = Array.from({ length: 250 }, (_, i) => openaiJob(`ftjob-${i}`));
    expect((await all(wire.jobs({}))).map(({ id }) => id)).toEqual(server.jobs.map(({ id }) => id));
    expect(server.requests.map(({ path }) => path)).toEqual([
      '/v1/fine_tuning/jobs?limit=100',
      '/v1/fine_tuning/jobs?limit=100&after=ftjob-99',
      '/v1/fine_tuning/jobs?limit=100&after=ftjob-199',
    ]);
    expect(server.requests.every(({ authorization }) => authorization === `Bearer ${KEY}`)).toBe(true);
  });

  it('refuses more jobs than an import takes', async () => {
    const { server, wire } = await start();
    server.jobs = Array.from({ length: 1_001 }, (_, i) => openaiJob(`ftjob-${i}`));
    await expect(all(wire.jobs({}))).rejects.toMatchObject({ code: 'invalid_request', param: 'jobs' });
  });

  it('reads jobs of the time before there were methods, and of methods', async () => {
    const { server, wire } = await start();
    const dpo = { type: 'dpo', dpo: { hyperparameters: { beta: 0.2, n_epochs: 2 } } };
    server.jobs = [
      openaiJob('ftjob-old', { method: undefined, seed: undefined, user_provided_suffix: null }),
      openaiJob('ftjob-dpo', { method: dpo, hyperparameters: {}, integrations: [{ type: 'wandb' }] }),
    ];
    expect(await wire.job('ftjob-old', {})).toMatchObject({
      method: { type: 'supervised', hyperparameters: { n_epochs: 3, learning_rate_multiplier: 1.8 } },
      seed: null,
      suffix: null,
    });
    expect(await wire.job('ftjob-dpo', {})).toMatchObject({
      method: { type: 'dpo', hyperparameters: { beta: 0.2, n_epochs: 2 } },
      hasIntegrations: true,
    });
  });

  it.each([
    ['retry-after in seconds', { 'retry-after': '3' }, [3_000, 3_000]],
    ['retry-after-ms', { 'retry-after-ms': '250', 'retry-after': '9' }, [250, 250]],
    ['neither', {}, [1_000, 2_000]],
  ])('repeats what is rate-limited, after %s', async (_, headers, expected) => {
    const { server, wire, waits } = await start();
    server.files.set('file-train', { filename: 'a.jsonl', content: chatRows(2) });
    failing(server, 2, { status: 429, code: 'rate_limit_exceeded', headers: headers as Record<string, string> });
    expect(await wire.file('file-train', {})).toMatchObject({ name: 'a.jsonl' });
    expect(waits).toEqual(expected);
  });

  it.each([
    [
      'a rate limit that does not end',
      { status: 429, code: 'rate_limit_exceeded' },
      6,
      /limits the rate of calls \(429\)/,
    ],
    [
      'one that asks for an hour',
      { status: 429, headers: { 'retry-after': '3600' } },
      1,
      /for longer than an import waits/,
    ],
    ['an account without credit', { status: 429, code: 'insufficient_quota' }, 1, /no credit left \(429\)/],
    ['a server that fails', { status: 503 }, 6, /fails \(503\)/],
    ['a connection that closes', 'cut' as const, 6, /No answer from http/],
    ['a redirection', { status: 302, headers: { location: 'http://127.0.0.1:9/' } }, 1, /redirects to another address/],
    ['a wrong address', { status: 404 }, 1, /does not answer as OpenAI's API does.*answered 404/],
  ])('gives one error for %s', async (_, fault, attempts, message) => {
    const { server, wire } = await start();
    server.onRequest = () => fault;
    await expect(all(wire.jobs({}))).rejects.toMatchObject({
      code: 'openai_unavailable',
      message: expect.stringMatching(message) as string,
    });
    expect(server.requests).toHaveLength(attempts);
  });

  it('names what is gone', async () => {
    const { wire } = await start();
    const gone = (what: RegExp) => ({ code: 'openai_gone', message: expect.stringMatching(what) as string });
    await expect(wire.job('ftjob-x', {})).rejects.toMatchObject(gone(/no longer has the fine-tuning job ftjob-x/));
    await expect(wire.file('file-x', {})).rejects.toMatchObject(gone(/no longer has the file file-x/));
    const question = { model: 'ft:gone', messages: [], tools: null };
    await expect(wire.answer(question, {})).rejects.toMatchObject(gone(/no longer has the model ft:gone/));
  });

  it('never repeats the key, whatever the service says', async () => {
    const wrong = 'sk-wrong-0123456789abcdef';
    const { server, wire } = await start({ apiKey: wrong });
    const refused = await wire.file('file-train', {}).catch((error: Error) => error);
    expect(refused).toMatchObject({ code: 'openai_access_denied' });
    server.onRequest = () => ({ status: 403, message: `${wrong} lacks the scope api.files.read` });
    const forbidden = await wire.file('file-train', {}).catch((error: Error) => error);
    expect(forbidden).toMatchObject({ message: expect.stringContaining('[the key] lacks the scope') as string });
    for (const error of [refused, forbidden]) {
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain(wrong);
    }
  });

  it.each(['sk with a blank', 'sk-\n', 'sk-\u2026', ''])('refuses the key %j, and does not repeat it', (apiKey) => {
    const make = () => new OpenaiWire({ apiKey });
    expect(make).toThrow(expect.objectContaining({ code: 'invalid_request', param: 'api_key' }));
    if (apiKey !== '') expect(make).not.toThrow(expect.objectContaining({ message: expect.stringContaining(apiKey) }));
  });

  it('gives the whole content of a file, or an error', async () => {
    const { server, wire } = await start();
    const content = chatRows(500);
    server.files.set('file-train', { filename: 'a.jsonl', content });
    const file = await wire.file('file-train', {});
    const digest = (text: string) => createHash('sha256').update(text).digest('hex');
    expect(digest(await textOf(wire.content(file, {})))).toBe(digest(content));
    await expect(textOf(wire.content({ ...file, bytes: 7 }, {}))).rejects.toMatchObject({ code: 'openai_unavailable' });
    server.onRequest = () => 'cut';
    await expect(textOf(wire.content(file, {}))).rejects.toMatchObject({ code: 'openai_unavailable' });
  });

  it('asks a model, and goes on after a question that is refused', async () => {
    const { server, wire } = await start();
    server.models.set('ft:m', () => ({ content: 'yes' }));
    const question = { model: 'ft:m', messages: [{ role: 'user', content: 'a' }], tools: null };
    expect(await wire.answer(question, {})).toEqual({ role: 'assistant', content: 'yes' });
    expect(server.requests.at(-1)?.body).toEqual({ model: 'ft:m', messages: question.messages, temperature: 0 });
    server.onRequest = () => ({ status: 400, code: 'context_length_exceeded' });
    expect(await wire.answer(question, {})).toBeNull();
  });

  it.each([
    ['no JSON', '<html>'],
    ['no list', '{"data": {}}'],
    ['a job without an id', '{"data": [{"model": "a"}]}'],
    ['a job with a path as its file', '{"data": [{"id": "ftjob-1", "model": "a", "training_file": "../x"}]}'],
    ['a job whose model is no text', '{"data": [{"id": "ftjob-1", "model": 7, "training_file": "file-1"}]}'],
  ])('refuses a service that answers with %s', async (_, body) => {
    const wire = new OpenaiWire({ baseUrl: 'http://127.0.0.1:9', fetch: async () => new Response(body) });
    await expect(all(wire.jobs({}))).rejects.toMatchObject({ code: 'openai_unavailable' });
  });

  it('stops at once when it is aborted', async () => {
    const stop = new AbortController();
    const wire = new OpenaiWire({
      baseUrl: 'http://127.0.0.1:9',
      wait: async () => stop.abort(new Error('stopped')),
    });
    await expect(wire.file('file-1', { signal: stop.signal })).rejects.toThrow('stopped');
  });
});

describe('the address', () => {
  it('has no slash at its end', () => {
    expect(addressOf('https://api.openai.com/v1/')).toBe('https://api.openai.com/v1');
  });

  it.each(['', 'api.openai.com', 'ftp://a/v1', 'https://u:p@a/v1', 'https://a/v1?x=1', 'https://a/v1#x'])(
    'is not %j',
    (text) => {
      expect(() => addressOf(text)).toThrow(expect.objectContaining({ code: 'invalid_request', param: 'base_url' }));
    },
  );
});
