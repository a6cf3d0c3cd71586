import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Answer, failure, hangUp, json, type ReceivedRequest, serve } from '../test/http-server.js';
import { createClient } from './node-client.js';
import type { DownloadProgress } from './resumable-download.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorasmith-client-'));
});
afterEach(() => rm(folder, { recursive: true }));

describe('uploadDataset', () => {
  it('streams a file, a text and chunks', async () => {
    const server = await serve(json(201, { id: 'ds_1' }));
    const client = createClient({ baseUrl: server.baseUrl });
    await writeFile(join(folder, 'rows.jsonl'), '{"text":"grün"}\n');
    const sent: number[] = [];
    expect(
      await client.uploadDataset({ file: join(folder, 'rows.jsonl') }, { onProgress: (bytes) => sent.push(bytes) }),
    ).toEqual({
      id: 'ds_1',
    });
    await client.uploadDataset({ text: '{"text":"b"}\n' }, { name: 'mine' });
    async function* chunks() {
      yield '{"text":';
      yield Buffer.from('"c"}\n');
    }
    await client.uploadDataset({ chunks: chunks() });
    expect(server.requests.map(({ url, body }) => [url, body])).toEqual([
      ['/datasets?name=rows.jsonl', '{"text":"grün"}\n'],
      ['/datasets?name=mine', '{"text":"b"}\n'],
      ['/datasets', '{"text":"c"}\n'],
    ]);
    expect(server.requests[0]?.headers).toMatchObject({
      'content-type': 'application/x-ndjson',
      'transfer-encoding': 'chunked',
    });
    expect(sent).toEqual([17]);
  });

  it('names a file that cannot be read, and sends nothing', async () => {
    const server = await serve(json(201, {}));
    const client = createClient({ baseUrl: server.baseUrl });
    await expect(client.uploadDataset({ file: join(folder, 'none') })).rejects.toThrow(/Cannot read .*none: ENOENT/);
    expect(server.requests).toHaveLength(0);
  });
});

describe('jobs', () => {
  const request = { base_model: 'tiny', dataset: 'ds_1', lora: { r: 4 } };

  it('requests a dry run by a query parameter', async () => {
    const server = await serve(json(200, { family: 'llama' }));
    expect(await createClient({ baseUrl: server.baseUrl }).dryRun(request)).toEqual({ family: 'llama' });
    expect(server.requests[0]?.url).toBe('/jobs?dry_run=true');
    expect(JSON.parse(server.requests[0]?.body ?? '')).toEqual(request);
  });

  const keysOf = ({ requests }: { requests: ReceivedRequest[] }) =>
    requests.map(({ headers }) => headers['idempotency-key']);

  it('retries the creation of a job with the same idempotency key', async () => {
    const server = await serve(hangUp, json(202, { id: 'job_1' }));
    const client = createClient({ baseUrl: server.baseUrl });
    expect(await client.createJob(request, { idempotencyKey: 'k' })).toEqual({ id: 'job_1' });
    expect(keysOf(server)).toEqual(['k', 'k']);
  });

  it('creates a new idempotency key for each call without one', async () => {
    const server = await serve(hangUp, json(202, { id: 'job_1' }));
    const client = createClient({ baseUrl: server.baseUrl });
    await client.createJob(request);
    await client.createJob(request);
    const [first, repeated, second] = keysOf(server);
    expect(first).toMatch(/^[0-9a-f-]{36}$/);
    expect(repeated).toBe(first);
    expect(second).not.toBe(first);
  });

  it('retries with the same key while planning a job exceeds the time limit of a call', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'], shouldAdvanceTime: true });
    onTestFinished(() => void vi.useRealTimers());
    const never = () => void vi.advanceTimersByTime(120_000);
    const server = await serve(never, json(504, 'a proxy gave up'), json(202, { id: 'job_1' }));
    expect(await createClient({ baseUrl: server.baseUrl }).createJob(request)).toEqual({ id: 'job_1' });
    expect(new Set(keysOf(server)).size).toBe(1);
    expect(server.requests).toHaveLength(3);
  });

  it('does not retry an immediate 504 for hours', async () => {
    const server = await serve(json(504, 'a proxy gave up'));
    await expect(createClient({ baseUrl: server.baseUrl }).createJob(request)).rejects.toMatchObject({ status: 504 });
    expect(server.requests).toHaveLength(3);
  });

  it('does not retry after the caller has aborted', async () => {
    const reason = new ProductError('timeout', 'The caller waited long enough.');
    const giveUp = new AbortController();
    const server = await serve(() => giveUp.abort(reason));
    const failed = createClient({ baseUrl: server.baseUrl }).createJob(request, { signal: giveUp.signal });
    await expect(failed).rejects.toBe(reason);
    expect(server.requests).toHaveLength(1);
  });

  it('does not retry when the api reports that planning timed out', async () => {
    const server = await serve(failure(504, 'timeout'));
    const failed = createClient({ baseUrl: server.baseUrl }).createJob(request);
    await expect(failed).rejects.toMatchObject({ code: 'timeout' });
    expect(server.requests).toHaveLength(1);
  });

  it('waits for the last event, then returns the job', async () => {
    const event = { id: '1-0', job: 'job_1', created_at: '', type: 'job-cancelled', data: {} };
    const server = await serve(
      (response) => {
        response
          .writeHead(200, { 'content-type': 'text/event-stream' })
          .end(`id: 1-0\ndata: ${JSON.stringify(event)}\n\n`);
      },
      json(200, { id: 'job_1', status: 'cancelled' }),
    );
    const events: unknown[] = [];
    const job = await createClient({ baseUrl: server.baseUrl }).waitForJob('job_1', {
      onEvent: (one) => events.push(one),
    });
    expect(job).toEqual({ id: 'job_1', status: 'cancelled' });
    expect(events).toEqual([event]);
  });

  it('reports the events of a job that was resumed after its last event, each once', async () => {
    const typed = (id: string, type: string) => ({ id, job: 'job_1', created_at: '', type, data: {} });
    const cancelled = typed('1-0', 'job-cancelled');
    const resumed = typed('2-0', 'job-resumed');
    const again = typed('3-0', 'job-cancelled');
    const stream =
      (...events: object[]): Answer =>
      (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.end(events.map((one) => `data: ${JSON.stringify(one)}\n\n`).join(''));
      };
    const server = await serve(
      stream(cancelled),
      json(200, { id: 'job_1', status: 'queued' }),
      stream(resumed, again),
      json(200, { id: 'job_1', status: 'cancelled' }),
    );
    const events: unknown[] = [];
    await createClient({ baseUrl: server.baseUrl }).waitForJob('job_1', { onEvent: (one) => events.push(one) });
    expect(events).toEqual([cancelled, resumed, again]);
    expect(server.requests[2]?.headers['last-event-id']).toBe('1-0');
  });

  it('encodes ids in paths', async () => {
    const server = await serve(json(200, {}));
    await createClient({ baseUrl: server.baseUrl }).getJob('../datasets?x=1');
    expect(server.requests[0]?.url).toBe('/jobs/..%2Fdatasets%3Fx%3D1');
  });

  it('cancels without a body, and deletes without a body in the answer', async () => {
    const server = await serve(json(202, { status: 'running' }), (response) => {
      response.writeHead(204).end();
    });
    const client = createClient({ baseUrl: server.baseUrl });
    await client.cancelJob('job_1');
    expect(await client.deleteJob('job_1')).toBeUndefined();
    expect(server.requests.map(({ method, url, body }) => [method, url, body])).toEqual([
      ['POST', '/jobs/job_1/cancel', ''],
      ['DELETE', '/jobs/job_1', ''],
    ]);
  });
});

describe('moveAlias', () => {
  it('is repeated when its answer is lost, but not from a version, which it may have changed', async () => {
    const server = await serve(hangUp, json(200, { name: 'bot' }));
    const client = createClient({ baseUrl: server.baseUrl });
    expect(await client.moveAlias('bot', { adapter: 'ad_1' }, { owner: 'none' })).toEqual({ name: 'bot' });
    expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual(
      Array.from({ length: 2 }, () => 'PUT /aliases/bot?owner=none'),
    );
    const once = await serve(hangUp, json(200, { name: 'bot' }));
    const moved = createClient({ baseUrl: once.baseUrl }).moveAlias('bot', { adapter: 'ad_1', if_version: 1 });
    await expect(moved).rejects.toMatchObject({ code: 'service_unavailable' });
    expect(once.requests).toHaveLength(1);
  });
});

describe('downloadAdapter', () => {
  const CONTENT: Record<string, string> = { 'adapter_config.json': '{}', 'adapter_model.safetensors': 'weights' };
  const list = json(200, {
    data: Object.entries(CONTENT).map(([name, content]) => ({
      name,
      bytes: content.length,
      sha256: createHash('sha256').update(content).digest('hex'),
    })),
  });
  const content =
    (bytes: string): Answer =>
    (response) =>
      void response.writeHead(200, { 'content-length': bytes.length, etag: '"1"' }).end(bytes);
  const [config, weights] = Object.values(CONTENT).map(content) as [Answer, Answer];

  it('downloads all files of the adapter to which a name points', async () => {
    const server = await serve(json(200, { id: 'ad_7' }), list, config, weights);
    const client = createClient({ baseUrl: server.baseUrl });
    await client.downloadAdapter('support-bot', { folder: join(folder, 'adapter') });
    const [name, ...others] = server.requests.map(({ url }) => url);
    expect(name).toBe('/adapters/support-bot/record');
    expect(others).toHaveLength(3);
    for (const url of others) expect(url).toMatch(/^\/adapters\/ad_7\/files/);
  });

  it('downloads the files of an adapter that match the digests of the registry', async () => {
    const server = await serve(list, config, weights);
    const client = createClient({ baseUrl: server.baseUrl });
    const target = join(folder, 'deep', 'adapter');
    const progress: DownloadProgress[] = [];
    await client.downloadAdapter('ad_1', { folder: target }, { onProgress: (one) => progress.push(one) });
    for (const [name, text] of Object.entries(CONTENT)) expect(await readFile(join(target, name), 'utf8')).toBe(text);
    expect(await readdir(join(folder, 'deep'))).toEqual(['adapter']);
    const files = '/adapters/ad_1/files';
    expect(server.requests.map(({ url }) => url)).toEqual([
      files,
      `${files}/adapter_config.json`,
      `${files}/adapter_model.safetensors`,
    ]);
    expect(progress.at(-1)).toEqual({ receivedBytes: 9, totalBytes: 9 });
  });

  it('continues with the files that an earlier call has not received, and replaces the folder on request', async () => {
    const server = await serve(list, config, failure(404, 'not_found'), list, weights);
    const client = createClient({ baseUrl: server.baseUrl });
    const target = join(folder, 'merged');
    await mkdir(target);
    await writeFile(join(target, 'old'), '');
    const options = { weights: 'merged', overwrite: true } as const;
    await expect(client.downloadAdapter('ad_1', { folder: target }, options)).rejects.toThrow();
    expect(await readdir(target)).toEqual(['old']);
    await writeFile(join(folder, '.merged.ad_1.merged', 'no-longer-listed'), '');
    await client.downloadAdapter('ad_1', { folder: target }, options);
    expect((await readdir(target)).sort()).toEqual(Object.keys(CONTENT));
    expect(await readdir(folder)).toEqual(['merged']);
    expect(server.requests.map(({ url }) => url).slice(3)).toEqual([
      '/adapters/ad_1/files?weights=merged',
      '/adapters/ad_1/files/adapter_model.safetensors?weights=merged',
    ]);
  });

  it('asks for each file with the repository that the base model is called by, and continues in one hidden folder', async () => {
    const server = await serve(list, config, failure(404, 'not_found'));
    const client = createClient({ baseUrl: server.baseUrl });
    const options = { base_model: 'some-org/some-model' };
    await expect(client.downloadAdapter('ad_1', { folder: join(folder, 'adapter') }, options)).rejects.toThrow();
    expect(server.requests.map(({ url }) => url)).toEqual(
      ['', '/adapter_config.json', '/adapter_model.safetensors'].map(
        (file) => `/adapters/ad_1/files${file}?base_model=some-org%2Fsome-model`,
      ),
    );
    expect(await readdir(folder)).toEqual(['.adapter.ad_1.some-org--some-model']);
  });

  it('refuses a damaged file, and receives it again in the next call', async () => {
    const server = await serve(list, config, content('damaged'), list, weights);
    const client = createClient({ baseUrl: server.baseUrl });
    const download = () => client.downloadAdapter('ad_1', { folder: join(folder, 'adapter') });
    const message = expect.stringContaining('adapter_model.safetensors');
    await expect(download()).rejects.toMatchObject({ code: 'invalid_adapter', message });
    expect(await readdir(folder)).toEqual(['.adapter.ad_1']);
    await download();
    expect(await readdir(folder)).toEqual(['adapter']);
  });

  it.each(['../a', 'a/b', '.hidden', '', '..'])('refuses a file with the name %j', async (name) => {
    const server = await serve(json(200, { data: [{ name, bytes: 7, sha256: 'a'.repeat(64) }] }));
    const client = createClient({ baseUrl: server.baseUrl });
    const failed = client.downloadAdapter('ad_1', { folder: join(folder, 'adapter') });
    await expect(failed).rejects.toMatchObject({ code: 'invalid_adapter', message: expect.stringContaining(name) });
    expect(await readdir(folder)).toEqual([]);
  });

  it('follows a redirect to another origin without the key, and no second one', async () => {
    const bucket = await serve(config, weights);
    const elsewhere: Answer = (response) =>
      void response.writeHead(307, { location: `${bucket.baseUrl}/object?signature=s` }).end();
    const server = await serve(list, elsewhere);
    const client = createClient({ baseUrl: server.baseUrl, apiKey: 'lora_secret' });
    await client.downloadAdapter('ad_1', { folder: join(folder, 'adapter') });
    expect(server.requests[1]?.headers.authorization).toBe('Bearer lora_secret');
    expect(bucket.requests.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/object?signature=s', undefined],
      ['/object?signature=s', undefined],
    ]);
    const redirecting = await serve(elsewhere);
    const twice: Answer = (response) => void response.writeHead(307, { location: `${redirecting.baseUrl}/` }).end();
    const other = createClient({ baseUrl: (await serve(list, twice)).baseUrl });
    const options = { maxFailures: 1 };
    await expect(other.downloadAdapter('ad_1', { folder: join(folder, 'other') }, options)).rejects.toThrow();
  });

  it('downloads an adapter with layers of each expert', async () => {
    const server = await serve(list, config, weights);
    const client = createClient({ baseUrl: server.baseUrl });
    await client.downloadAdapter('ad_1', { folder: join(folder, 'adapter') }, { layout: 'per-expert' });
    expect(server.requests.map(({ url }) => url)).toEqual(
      ['files', 'files/adapter_config.json', 'files/adapter_model.safetensors'].map(
        (path) => `/adapters/ad_1/${path}?layout=per-expert`,
      ),
    );
    expect(await readdir(folder)).toEqual(['adapter']);
  });

  it('downloads the merged model as a tar, and overwrites only on request', async () => {
    const server = await serve(content('tar'));
    const client = createClient({ baseUrl: server.baseUrl });
    const file = join(folder, 'merged.tar');
    await client.downloadAdapter('ad_1', { file }, { weights: 'merged' });
    expect(server.requests[0]?.url).toBe('/adapters/ad_1?weights=merged');
    await expect(client.downloadAdapter('ad_1', { file })).rejects.toMatchObject({ code: 'conflict' });
    expect(server.requests).toHaveLength(1);
    await client.downloadAdapter('ad_1', { file }, { overwrite: true });
    expect(await readdir(folder)).toEqual(['merged.tar']);
  });
});

describe('text', () => {
  const events =
    (...data: unknown[]): Answer =>
    (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(data.map((one) => `data: ${typeof one === 'string' ? one : JSON.stringify(one)}\n\n`).join(''));
    };
  const chunk = (content: string) => ({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
  const messages = [{ role: 'user' as const, content: 'Hello' }];

  it('is streamed to its end, and an error in it is that of the api', async () => {
    const broken = {
      error: { message: 'It is gone.', type: 'invalid_request_error', param: 'model', code: 'model_not_found' },
    };
    const server = await serve(
      events(chunk('On'), chunk('e'), '[DONE]'),
      events(chunk('On'), broken),
      events(chunk('On')),
    );
    const client = createClient({ baseUrl: server.baseUrl });
    const textOf = async () => {
      const pieces: string[] = [];
      const failure = await (async () => {
        for await (const { choices } of client.streamChat({ model: 'ad_1', messages }))
          pieces.push(choices[0]!.delta.content!);
      })().catch((error: unknown) => error);
      return { text: pieces.join(''), failure };
    };
    expect(await textOf()).toEqual({ text: 'One', failure: undefined });
    expect(JSON.parse(server.requests[0]!.body)).toEqual({ model: 'ad_1', messages, stream: true });
    expect(await textOf()).toMatchObject({ text: 'On', failure: { code: 'model_not_found', message: 'It is gone.' } });
    expect(await textOf()).toMatchObject({ text: 'On', failure: { code: 'service_unavailable' } });
  });

  it('is scored token by token', async () => {
    const logprobs = { tokens: ['<s>', 'a', 'b'], token_logprobs: [null, -1, -3], top_logprobs: [], text_offset: [] };
    const server = await serve(json(200, { choices: [{ index: 0, text: 'ab', logprobs, finish_reason: 'length' }] }));
    const score = await createClient({ baseUrl: server.baseUrl }).score('ad_1', 'ab');
    expect(score).toEqual({
      tokens: [
        { token: '<s>', logprob: null },
        { token: 'a', logprob: -1 },
        { token: 'b', logprob: -3 },
      ],
      logprob: -4,
      perplexity: Math.exp(2),
    });
    const [{ url, body }] = server.requests as [ReceivedRequest];
    expect([url, JSON.parse(body)]).toEqual([
      '/v1/completions',
      { model: 'ad_1', prompt: 'ab', max_tokens: 0, echo: true, logprobs: 0 },
    ]);
  });
});
