import { once } from 'node:events';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { ErrorBody, JobRequest, ProductError } from '@lorasmith/contracts';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createHttpApp, createLogger, errorBody, type HttpApp, healthRoutes } from './index.js';

let app: HttpApp;
let lines: { level: string; msg: string; err?: { message: string } }[];

beforeEach(() => {
  lines = [];
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()));
      done();
    },
  });
  app = createHttpApp({ logger: createLogger({ service: 'test', level: 'info', destination }), bodyLimitBytes: 4096 });
  app.post('/jobs', { schema: { body: JobRequest } }, async ({ body }) => body);
  const querystring = Type.Object(
    { limit: Type.Optional(Type.Integer({ minimum: 1, default: 20 })), flag: Type.Optional(Type.Boolean()) },
    { additionalProperties: false },
  );
  app.get('/items/:id', { schema: { querystring } }, async ({ query }) => query);
  app.delete('/items/:id', async () => ({}));
  app.get('/broken', async () => {
    throw new TypeError('a bug with a secret in its text');
  });
  app.get('/refused', async () => {
    throw new ProductError('in_use', 'It is used.', { param: 'id' });
  });
});
afterEach(() => app.close());

async function post(payload: string | object, headers: Record<string, string> = {}) {
  const answer = await app.inject({
    method: 'POST',
    url: '/jobs',
    payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
    headers: { 'content-type': 'application/json', ...headers },
  });
  return { status: answer.statusCode, body: answer.json(), headers: answer.headers };
}

const good = { base_model: 'tiny', dataset: `ds_${'0'.repeat(24)}` };

describe('a body', () => {
  test('a body that is valid arrives as sent, without added fields', async () => {
    expect(await post(good)).toMatchObject({ status: 200, body: good });
  });

  test('a body with several faults has each listed with its path', async () => {
    const { status, body } = await post({
      base_model: '../etc',
      lora: { r: 0, alpha: '16', target_modules: 7, rank: 4 },
      training: { max_steps: 'many', max_grad_norm: -1, lr_scheduler: 'exponential' },
      metadata: { a: 1 },
    });
    expect(status).toBe(400);
    expect(Value.Check(ErrorBody, body)).toBe(true);
    expect(body.error.code).toBe('invalid_request');
    const faults = body.error.details.map((fault: { param: string; message: string }) => [fault.param, fault.message]);
    expect(Object.fromEntries(faults)).toEqual({
      dataset: 'dataset is missing.',
      base_model: expect.stringMatching(/^base_model must be the name of a folder in MODELS_DIR, without a slash\./),
      'lora.rank': 'There is no field lora.rank. In a job it is lora.r.',
      'lora.r': 'lora.r must be >= 1.',
      'lora.alpha': 'lora.alpha must be number.',
      'lora.target_modules': 'lora.target_modules must be array or string.',
      'training.max_steps': 'training.max_steps must be integer or null.',
      'training.max_grad_norm': 'training.max_grad_norm must be > 0.',
      'training.lr_scheduler': 'training.lr_scheduler must be one of: constant, linear, cosine.',
      'metadata.a': 'metadata.a must be string.',
    });
    expect(faults).toHaveLength(10);
  });

  test('a body is refused that is nested deeper than any request needs, also where it may have anything', async () => {
    const nested = (levels: number) => {
      const schema = `${'['.repeat(levels)}${']'.repeat(levels)}`;
      const objective = `{"kind":"group-relative","grader":{"type":"json_schema","schema":${schema}}}`;
      return `${JSON.stringify(good).slice(0, -1)},"objective":${objective}}`;
    };
    // The body, its objective and the grader are levels, too.
    expect((await post(nested(125))).status).toBe(200);
    const error = { code: 'invalid_request', message: 'The body is nested deeper than 128 levels.' };
    expect(await post(nested(126))).toMatchObject({ status: 400, body: { error } });
  });

  test("a body with another API's grader has hints about graders, not about jobs", async () => {
    const faultsOf = async (grader: object) => {
      const { body } = await post({ ...good, objective: { kind: 'group-relative', grader } });
      const details: { param: string; message: string }[] = body.error.details;
      return Object.fromEntries(details.map(({ param, message }) => [param.replace('objective.grader.', ''), message]));
    };
    const labelled = { type: 'label_model', name: 'judge', model: 'gpt-4.1', labels: ['good'] };
    expect(await faultsOf(labelled)).toEqual({
      type: expect.stringMatching(
        /^\S+ must be one of: string_check, .* a grader of type webhook calls a service of yours, which can\.$/,
      ),
      name: expect.stringContaining('leave it out'),
      labels: expect.stringMatching(/^There is no field \S+ Graders run no code and choose no labels/),
    });
    const scored = { type: 'score_model', name: 'judge', model: 'gpt-4.1', range: [0, 1], seed: 1 };
    expect(await faultsOf({ ...scored, sampling_params: {} })).toEqual({
      name: expect.stringContaining('leave it out'),
      sampling_params: expect.stringContaining('temperature 0'),
      seed: 'There is no field objective.grader.seed.',
    });
    const within = await faultsOf({ type: 'multi', graders: { judge: scored }, calculate_output: 'judge' });
    expect(within).toMatchObject({
      'graders.judge.type': expect.stringContaining('not within a formula'),
      'graders.judge.model': expect.stringContaining('not within a formula'),
      'graders.judge.range': expect.stringContaining('not within a formula'),
    });
  });

  test('a body with only an unknown field is refused with unknown_field', async () => {
    const { status, body } = await post({ ...good, lora: { bias: 'none' } });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ code: 'unknown_field', param: 'lora.bias' });
  });

  test.each([
    ['broken JSON', '{"base_model": ', {}, 400, 'invalid_json'],
    ['nothing', '', {}, 400, 'invalid_request'],
    ['__proto__', '{"base_model":"m","__proto__":{"x":1}}', {}, 400, 'invalid_json'],
    ['constructor.prototype', '{"constructor":{"prototype":{"x":1}}}', {}, 400, 'invalid_json'],
    ['deep nesting', `{"metadata":${'['.repeat(2000)}${']'.repeat(2000)}}`, {}, 400, 'invalid_request'],
    ['a number', '7', {}, 400, 'invalid_request'],
    ['null', 'null', {}, 400, 'invalid_request'],
    ['too many bytes', JSON.stringify({ name: 'x'.repeat(5000) }), {}, 413, 'body_too_large'],
    [
      'another content type',
      'a=1',
      { 'content-type': 'application/x-www-form-urlencoded' },
      415,
      'unsupported_media_type',
    ],
    ['a broken content type', '{}', { 'content-type': 'application/' }, 415, 'unsupported_media_type'],
  ])('a body of %s is refused', async (_name, payload, headers, status, code) => {
    const answer = await post(payload, headers);
    expect([answer.status, answer.body.error.code]).toEqual([status, code]);
    expect(Value.Check(ErrorBody, answer.body)).toBe(true);
  });
});

describe('the message for a refused body says what to do:', () => {
  const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
  const MODEL = 'the name of a folder in MODELS_DIR, without a slash';
  const LONG = `{"name": "${'s'.repeat(200)}secret${'s'.repeat(200)}",}`;

  test.each([
    ['a form', JSON.stringify(good), FORM, 'takes JSON, with the header content-type: application/json.'],
    ['text', '{}', { 'content-type': 'text/plain' }, 'content-type: application/json.'],
    ['no type', '{}', { 'content-type': '' }, 'content-type: application/json.'],
    ['a trailing comma', '{"base_model": "m",}', {}, /^The body is not JSON: .* in JSON at position 19/],
    ['single quotes', "{'a': 1}", {}, /^The body is not JSON: .*'/],
    ['__proto__', '{"__proto__": 1}', {}, 'contains the key __proto__'],
    ['nothing', '', {}, 'The body must be object.'],
    ['a form of nothing', '', FORM, 'The body must be object.'],
    ['a name of the Hub', { ...good, base_model: 'HuggingFaceTB/SmolLM2' }, {}, MODEL],
    ['a name as dataset', { ...good, dataset: 'dates' }, {}, 'the id of a dataset, "ds_" and 24 characters'],
    ['a file as dataset', { ...good, dataset: 'file-abc' }, {}, 'which POST /datasets returns'],
    ['a job to go on with', { ...good, lora: { init_from: 'job_1' } }, {}, 'A job has it in its field "adapter".'],
    [
      'a field of PEFT',
      { ...good, lora: { lora_alpha: 8 } },
      {},
      'no field lora.lora_alpha. In a job it is lora.alpha.',
    ],
    [
      'a name with an escape sequence',
      { ...good, name: 'a\u001b[2J' },
      {},
      'name must be text in one line with a character that can be seen, without control',
    ],
    [
      'a name in two lines',
      { ...good, name: 'a\u2028b' },
      {},
      'name must be text in one line with a character that can be seen, without control',
    ],
    ['a name that turns the text around', { ...good, name: 'a\u202eb' }, {}, 'name must be text in one line'],
    ['a field of OpenAI', { ...good, model: 'm' }, {}, 'no field model. In a job it is base_model.'],
    ['a field at another place', { ...good, epochs: 1 }, {}, 'In a job it is training.epochs.'],
  ])('%s', async (_name, payload, headers, message) => {
    const { body } = await post(payload, headers as Record<string, string>);
    expect(body.error.message).toMatch(message);
  });

  test('the message quotes only a few characters of the body', async () => {
    const { body } = await post(LONG);
    expect(body.error.message).toMatch(/^The body is not JSON/);
    expect(body.error.message).not.toContain('secret');
    expect(body.error.message.length).toBeLessThan(120);
  });

  test.each([
    ['JSON', 'application/json'],
    ['JSON in UTF-8', 'application/json; charset=utf-8'],
    ['a form', FORM['content-type']],
  ])('an empty body with the type of %s counts as none', async (_name, type) => {
    app.post('/without', async ({ body }) => ({ body: body ?? null }));
    const answer = await app.inject({
      method: 'POST',
      url: '/without',
      payload: '',
      headers: { 'content-type': type },
    });
    expect([answer.statusCode, answer.json()]).toEqual([200, { body: null }]);
  });
});

describe('a query string', () => {
  test('is converted to numbers and booleans and given its defaults', async () => {
    expect((await app.inject('/items/1?flag=true')).json()).toEqual({ limit: 20, flag: true });
    expect((await app.inject('/items/1?limit=3')).json()).toEqual({ limit: 3 });
  });

  test.each(['limit=x', 'limit=', 'limit=0', 'limit=1.5', 'limit=1&limit=2', 'flag=yes', 'other=1', '__proto__=1'])(
    '%s is refused',
    async (query) => {
      const answer = await app.inject(`/items/1?${query}`);
      expect(answer.statusCode).toBe(400);
    },
  );
});

describe('a path', () => {
  test('a path that is unknown is 404, and with other methods 405', async () => {
    const unknown = await app.inject('/nothing');
    expect([unknown.statusCode, unknown.json().error.code]).toEqual([404, 'not_found']);
    expect(unknown.json().error.message).toContain('GET /openapi.json');
    const headers = { 'content-type': 'multipart/form-data; boundary=b' };
    const other = await app.inject({ method: 'POST', url: '/v1/uploads?x=1', payload: '--b--', headers });
    expect([other.statusCode, other.json().error.message]).toEqual([404, expect.stringContaining('POST /datasets')]);
    const wrong = await app.inject({ method: 'PUT', url: '/items/7?x=1' });
    expect([wrong.statusCode, wrong.json().error.code]).toEqual([405, 'method_not_allowed']);
    expect(wrong.headers.allow).toBe('DELETE, GET, HEAD');
  });

  test.each(['/items/%', '/items/%ff', '/items/%c0%ae', `/items/${'x'.repeat(600)}`, '/%00', '//', '/items/..%2f..'])(
    '%s is never a 500',
    async (url) => {
      const answer = await app.inject(url);
      expect(answer.statusCode).toBeLessThan(500);
      if (answer.statusCode >= 400) expect(Value.Check(ErrorBody, answer.json())).toBe(true);
    },
  );
});

describe('an error', () => {
  test('an error of the service is a 500 that reveals nothing, logged once with its cause', async () => {
    const answer = await app.inject('/broken');
    expect(answer.statusCode).toBe(500);
    expect(answer.json().error).toMatchObject({ code: 'internal_error', request_id: answer.headers['x-request-id'] });
    expect(answer.body).not.toContain('secret');
    expect(lines).toMatchObject([{ level: 'error', err: { message: 'a bug with a secret in its text' } }]);
  });

  test('an error of the client is logged once, at info', async () => {
    const answer = await app.inject('/refused');
    expect(answer.json().error).toMatchObject({ code: 'in_use', message: 'It is used.', param: 'id', details: [] });
    expect(lines).toMatchObject([{ level: 'info', msg: 'It is used.' }]);
  });

  test('an error with a very long message is truncated', () => {
    const error = new ProductError('in_use', 'x'.repeat(1_000_000), { param: 'y'.repeat(1_000_000) });
    const { message, param } = errorBody(error, null).error;
    expect([message.length, param?.length]).toEqual([4_000, 1_000]);
  });

  test('has the request id of the client, unless it has special characters', async () => {
    const given = async (id: string) =>
      (await app.inject({ url: '/refused', headers: { 'x-request-id': id } })).json().error.request_id;
    expect(await given('my-id.1')).toBe('my-id.1');
    expect(await given('a b"c')).toMatch(/^req_[0-9a-f]{24}$/);
  });
});

test('bytes that are not HTTP are answered with an error', async () => {
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as { port: number };
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.write('nonsense\r\n\r\n');
  const answer = await text(socket);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(Value.Check(ErrorBody, JSON.parse(answer.split('\r\n\r\n')[1]!))).toBe(true);
});

test('a process without free file handles answers 503 with a time to retry', async () => {
  const code = 'EMFILE';
  app.get('/direct', async () => {
    throw Object.assign(new Error("EMFILE: too many open files, open '/models'"), { code });
  });
  app.get('/from-a-thread', async () => {
    throw new Error('planning failed', { cause: new Error("ENFILE: file table overflow, open '/models'") });
  });
  for (const path of ['/direct', '/from-a-thread']) {
    const answer = await app.inject(path);
    expect([answer.statusCode, answer.headers['retry-after']]).toEqual([503, '2']);
    expect(answer.json().error.code).toBe('service_unavailable');
    expect(answer.body).not.toContain('/models');
  }
});

/** A server without Node's time limits closes a connection only when its client does. */
function withoutTimeouts(): void {
  Object.assign(app.server, { headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: 0 });
}

test('closing does not wait for connections without a request', async () => {
  const url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }));
  withoutTimeouts();
  const socket = connect({ host: '127.0.0.1', port: Number(url.port) });
  await once(socket, 'connect');
  const ended = once(socket, 'close');
  await app.close();
  await ended;
});

test('closing waits for running requests but not for their connections', async () => {
  const { promise: mayAnswer, resolve: answerNow } = promiseWithResolvers();
  const { promise: hasArrived, resolve: arrive } = promiseWithResolvers();
  app.get('/slow', async () => {
    arrive();
    await mayAnswer;
    return { done: true };
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  withoutTimeouts();
  const answer = fetch(`${url}/slow`);
  await hasArrived;
  const closed = app.close();
  answerNow();
  expect(await (await answer).json()).toEqual({ done: true });
  await closed;
});

function promiseWithResolvers() {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

test('/ready names an unavailable dependency, /live ignores it', async () => {
  const failing = async () => {
    throw new ProductError('redis_unavailable', 'Redis cannot be reached.');
  };
  await app.register(async (scope) =>
    healthRoutes(scope as HttpApp, { checks: { redis: failing, disk: async () => {} } }),
  );
  expect((await app.inject('/live')).json()).toEqual({ status: 'ok', checks: [] });
  const ready = await app.inject('/ready');
  expect(ready.statusCode).toBe(503);
  expect(ready.json().error).toMatchObject({
    code: 'service_unavailable',
    details: [{ code: 'redis_unavailable', param: 'redis' }],
  });
});

describe('the log of failed requests', () => {
  test('of many of a kind, some are written and the others are counted', async () => {
    for (let i = 0; i < 80; i++) await app.inject({ url: '/refused' });
    for (let i = 0; i < 3; i++) await app.inject({ url: '/nothing' });
    expect(lines.filter(({ msg }) => msg === 'It is used.')).toHaveLength(50);
    expect(lines.filter(({ msg }) => msg.startsWith('There is nothing'))).toHaveLength(3);
    await app.close();
    expect(lines.at(-1)).toMatchObject({
      level: 'warn',
      code: 'in_use',
      count: 30,
      msg: '30 further requests ended with in_use within a minute',
    });
  });

  test('each sender has its own lines', async () => {
    const callers = [{ owner: 'key_1' }, { owner: 'key_2' }, null];
    app.addHook('onRequest', async (request) => {
      Object.assign(request, { caller: callers[Number(request.headers.from)] });
    });
    for (const from of ['0', '1', '2']) {
      for (let i = 0; i < 60; i++) await app.inject({ url: '/refused', headers: { from } });
    }
    expect(lines.filter(({ msg }) => msg === 'It is used.')).toHaveLength(150);
    await app.close();
    expect(lines.slice(-3).map((line) => (line as { key?: string | null }).key)).toEqual(['key_1', 'key_2', null]);
  });

  test('a minute later, requests are written again', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      for (let i = 0; i < 60; i++) await app.inject({ url: '/refused' });
      vi.advanceTimersByTime(60_000);
      await app.inject({ url: '/refused' });
    } finally {
      vi.useRealTimers();
    }
    expect(lines.map(({ level }) => level).slice(-2)).toEqual(['warn', 'info']);
  });
});
