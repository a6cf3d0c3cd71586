import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createClient, OpenaiImport, OpenaiWire, type PlannedImport } from '@lorasmith/client';
import type { ImportedJob, OpenaiImportEvent, OpenaiImportRequest } from '@lorasmith/contracts';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  chatRows,
  gradedRowsThere,
  type OpenaiServer,
  openaiJob,
  preferenceRows,
  startOpenaiServer,
} from '../../../test/openai-server.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { redisTexts } from '../../../test/redis-texts.js';
import { usualCases } from '../../../test/usual-cases.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { type KeyLimits, KeyStore } from '../src/access/key-store.js';
import { type RealApi, startRealApi } from './real-api.js';

// Jobs move in from a server with OpenAI's wire, into a real api with a real Redis: with the engine over HTTP, as `lora import-openai` runs
// it, and with POST /imports/openai.

const MODEL = 'tiny-llama';
const KEY = 'sk-test-key';

let redisServer: RealRedis;
let redis: Redis;
let keys: KeyStore;
let api: RealApi;
let openai: OpenaiServer;
let baseUrl: string;
let prefix: string;
let token: string;

beforeAll(async () => {
  redisServer = await startRealRedis();
  redis = new Redis(redisServer.url);
  prefix = `${redisServer.prefix}import:`;
  keys = new KeyStore({ redis, prefix });
  openai = await startOpenaiServer();
  const limits = OPEN_ACCESS.limits;
  const access = createAccess({ redis, prefix, keys, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 });
  const importUrls = [openai.baseUrl];
  api = await startRealApi({ redisUrl: redisServer.url, prefix, changes: { access, importUrls } });
  baseUrl = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await api.stop();
  await openai.close();
  await redis.quit();
  await redisServer.stop();
});

/** A service without anything, as a new key sees it. */
async function useNewKey(limits: KeyLimits = {}): Promise<void> {
  token = (await keys.create({ name: 'train', role: 'train', limits })).token;
}

beforeEach(async () => {
  await useNewKey();
  Object.assign(openai, { keys: new Set([KEY]), jobs: [], requests: [], onRequest: () => null });
  openai.files.clear();
  openai.models.clear();
});

const client = () => createClient({ baseUrl, apiKey: token });

/** An account with jobs of each method, a file that two of them share, and one that has failed. */
function fillAccount(): void {
  openai.files.set('file-train', { filename: 'support.jsonl', content: chatRows(12) });
  openai.files.set('file-valid', { filename: 'support-valid.jsonl', content: chatRows(3, 'held out') });
  openai.files.set('file-pairs', { filename: 'tone.jsonl', content: preferenceRows(8) });
  openai.files.set('file-graded', { filename: 'sums.jsonl', content: gradedRowsThere(6) });
  const grader = {
    type: 'string_check',
    input: '{{sample.output_text}}',
    reference: '{{item.reference_answer}}',
    operation: 'eq',
  };
  openai.jobs = [
    openaiJob('ftjob-failed', { status: 'failed', fine_tuned_model: null }),
    openaiJob('ftjob-graded', {
      training_file: 'file-graded',
      method: { type: 'reinforcement', reinforcement: { grader, hyperparameters: { n_epochs: 1, batch_size: 2 } } },
      user_provided_suffix: 'sums',
    }),
    openaiJob('ftjob-pairs', {
      training_file: 'file-pairs',
      method: {
        type: 'dpo',
        dpo: { hyperparameters: { beta: 0.2, n_epochs: 1, batch_size: 2, learning_rate_multiplier: 1 } },
      },
      user_provided_suffix: 'tone',
    }),
    openaiJob('ftjob-again', { validation_file: 'file-valid', user_provided_suffix: 'again' }),
    openaiJob('ftjob-first', { validation_file: 'file-valid', metadata: { team: 'support' } }),
  ];
}

interface ImportOptions {
  jobs?: string[];
  recordAnswers?: number;
  dryRun?: boolean;
  signal?: AbortSignal;
  wait?: () => Promise<void>;
}

/** Runs an import as the command does, without waits. */
async function run({ jobs, recordAnswers, dryRun = false, signal, wait }: ImportOptions = {}) {
  const source = new OpenaiWire({ baseUrl: openai.baseUrl, apiKey: KEY, wait: async () => {} });
  const work = new OpenaiImport({ source, client: client(), baseModel: MODEL, jobs, recordAnswers, signal, wait });
  const plans: PlannedImport[] = [];
  for await (const plan of work.plan()) plans.push(plan);
  const events: OpenaiImportEvent[] = [];
  if (!dryRun) for await (const event of work.post(plans)) events.push(event);
  return { jobs: plans.map(({ job }) => job), events };
}

const outcomes = (jobs: readonly ImportedJob[]) => Object.fromEntries(jobs.map(({ id, outcome }) => [id, outcome]));
const POSTED = {
  'ftjob-first': 'posted',
  'ftjob-again': 'posted',
  'ftjob-pairs': 'posted',
  'ftjob-graded': 'posted',
  'ftjob-failed': 'skipped',
};

/** Everything that imports have made, without what differs from run to run: a key's datasets have ids of their own. */
async function state() {
  const [jobs, datasets] = [await client().listJobs({ limit: 100 }), await client().listDatasets({ limit: 100 })];
  const digestOf = (id: string | null) => datasets.data.find((dataset) => dataset.id === id)?.sha256 ?? id;
  const withoutAddress = (note: string | null) =>
    note?.replace(openai.baseUrl, 'ADDRESS').replaceAll(/ds_\w{24}/g, (id) => digestOf(id)!) ?? null;
  return {
    jobs: jobs.data
      .map(({ name, dataset, validation, objective, training, tags, note, metadata }) => ({
        ...{ name, objective, training, tags, metadata },
        rows: digestOf(dataset),
        heldOut: digestOf(validation.dataset),
        note: withoutAddress(note),
      }))
      .sort((one, other) => (one.tags[0]! < other.tags[0]! ? -1 : 1)),
    datasets: datasets.data
      .map(({ sha256, name, rows, format, tags, note }) => ({
        sha256,
        name,
        rows,
        format,
        tags,
        note: withoutAddress(note),
      }))
      .sort((one, other) => (one.sha256 < other.sha256 ? -1 : 1)),
  };
}

describe('an import', () => {
  test('plans every job, and changes nothing', async () => {
    fillAccount();
    const { jobs } = await run({ dryRun: true });
    expect(jobs.map(({ id }) => id)).toEqual([
      'ftjob-first',
      'ftjob-again',
      'ftjob-pairs',
      'ftjob-graded',
      'ftjob-failed',
    ]);
    expect(jobs[0]).toMatchObject({
      outcome: 'planned',
      training_file: { id: 'file-train', name: 'support.jsonl', dataset: null },
      settings: { method: 'supervised', n_epochs: 3, learning_rate: 1.8e-4 },
    });
    expect(await state()).toEqual({ jobs: [], datasets: [] });
    expect(openai.requests.some(({ path: asked }) => asked.endsWith('/content'))).toBe(false);
  });

  test('posts the jobs with their files, each fetched once', async () => {
    fillAccount();
    const { jobs, events } = await run();
    expect(outcomes(jobs)).toEqual(POSTED);
    expect(events.at(-1)).toMatchObject({ type: 'import-ended', posted: 4, skipped: 1, failed: 0, imported: 0 });
    const fetched = openai.requests.filter(({ path: asked }) => asked.endsWith('/content'));
    expect(fetched.map(({ path: asked }) => asked.split('/')[3]).sort()).toEqual(
      ['file-graded', 'file-pairs', 'file-train', 'file-valid'].sort(),
    );
    const { jobs: here, datasets } = await state();
    expect(datasets.map(({ tags, format }) => [tags[0], format]).sort()).toEqual([
      ['file-pairs', 'openai_preference'],
      ['file-train', 'messages'],
      ['file-valid', 'messages'],
      ['graded-file-graded', 'graded_prompt'],
    ]);
    const first = here.find(({ tags }) => tags.includes('ftjob-first'));
    expect(first).toMatchObject({
      name: 'support',
      metadata: { team: 'support' },
      training: { epochs: 3, batch_size: 1, seed: 683058546 },
      heldOut: datasets.find(({ tags }) => tags.includes('file-valid'))!.sha256,
      note: 'From ADDRESS: the job ftjob-first on gpt-4o-mini-2024-07-18, which made ft:gpt-4o-mini-2024-07-18:acme:support:irst.',
    });
    expect(here.find(({ tags }) => tags.includes('ftjob-pairs'))?.objective).toMatchObject({
      kind: 'preference',
      beta: 0.2,
    });
    expect(here.find(({ tags }) => tags.includes('ftjob-graded'))?.objective).toMatchObject({
      kind: 'group-relative',
      grader: { reference: '{{item.reference.reference_answer}}' },
    });
  });

  test('does nothing twice when it is repeated, whatever has become of its jobs', async () => {
    fillAccount();
    await run();
    const before = await state();
    const [job] = (await client().listJobs({ tag: 'ftjob-first' })).data;
    await client().cancelJob(job!.id);
    openai.requests.length = 0;
    const { jobs, events } = await run();
    expect(outcomes(jobs)).toMatchObject({ 'ftjob-first': 'imported', 'ftjob-graded': 'imported' });
    expect(events.at(-1)).toMatchObject({ posted: 0, imported: 4 });
    expect(await state()).toEqual(before);
    expect(openai.requests.some(({ path: asked }) => asked.includes('/files/'))).toBe(false);
  });

  test('two at the same time make each job once', async () => {
    fillAccount();
    await Promise.all([run(), run()]);
    expect((await state()).jobs.map(({ tags }) => tags)).toEqual([
      ['ftjob-again'],
      ['ftjob-first'],
      ['ftjob-graded'],
      ['ftjob-pairs'],
    ]);
  });

  test('takes a job that is named, although it has failed there', async () => {
    fillAccount();
    const { jobs } = await run({ jobs: ['ftjob-failed'] });
    expect(outcomes(jobs)).toEqual({ 'ftjob-failed': 'posted' });
    await expect(run({ jobs: ['ftjob-none'] })).rejects.toMatchObject({ code: 'openai_gone' });
  });

  test('waits where its key has reached its calls per minute', async () => {
    fillAccount();
    await run();
    const expected = await state();
    await useNewKey({ requests_per_minute: 3 });
    let waits = 0;
    const minuteIsOver = async () => {
      waits++;
      const counters = await redis.keys(`${prefix}api-keys:calls*`);
      await redis.del(...counters);
    };
    const { jobs } = await run({ wait: minuteIsOver });
    expect(outcomes(jobs)).toEqual(POSTED);
    expect(waits).toBeGreaterThan(4);
    await minuteIsOver();
    expect(await state()).toEqual(expected);
  });

  test('refuses a base model that is not here before it asks anything', async () => {
    const source = new OpenaiWire({ baseUrl: openai.baseUrl, apiKey: KEY });
    const work = new OpenaiImport({ source, client: client(), baseModel: 'none' });
    await expect(work.plan().next()).rejects.toMatchObject({ code: 'model_not_found' });
    expect(openai.requests).toEqual([]);
  });
});

describe('a file that cannot be used', () => {
  const bad = (content: string | null) => {
    fillAccount();
    if (content === null) openai.files.delete('file-train');
    else openai.files.set('file-train', { filename: 'support.jsonl', content });
  };
  const withMessage = (message: object) =>
    `${JSON.stringify({ messages: [{ role: 'user', content: 'a' }, message] })}\n`;
  const image = { role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }] };

  const files: [what: string, content: string | null, code: string, text: RegExp][] = [
    ['has expired', null, 'openai_gone', /no longer has the file file-train/],
    ['is not JSONL', 'question,answer\n1,2\n', 'invalid_dataset', /The file file-train cannot be used/],
    ['is empty', '', 'dataset_empty', /The file file-train cannot be used/],
    ['has images', withMessage(image), 'invalid_dataset', /Images are not supported/],
    [
      'has functions in the older form',
      withMessage({ role: 'assistant', content: null, function_call: { name: 'f', arguments: '{}' } }),
      'invalid_dataset',
      /older form of tools/,
    ],
    [
      'has a line that is too long',
      withMessage({ role: 'assistant', content: 'x'.repeat(30_000) }),
      'invalid_dataset',
      /cannot be used/,
    ],
    [
      'is larger than a dataset may be',
      chatRows(900, 'x'.repeat(200)),
      'body_too_large',
      /The file file-train cannot be used/,
    ],
  ];

  test.each(usualCases(files, 4))(
    '%s: its jobs have one error each, and the others are posted',
    async (_, content, code, text) => {
      bad(content);
      const { jobs } = await run();
      expect(outcomes(jobs)).toEqual({ ...POSTED, 'ftjob-first': 'failed', 'ftjob-again': 'failed' });
      const { error } = jobs[0]!;
      expect(error?.code).toBe(code);
      expect(JSON.stringify(error)).toMatch(text);
      const stored = (await state()).datasets.flatMap(({ tags }) => tags);
      expect(stored).not.toContain('file-train');
    },
  );

  test('for validation has expired: the jobs are trained without, and say so', async () => {
    fillAccount();
    openai.files.delete('file-valid');
    const { jobs } = await run();
    expect(outcomes(jobs)).toEqual(POSTED);
    expect(jobs[0]!.differs.at(-1)).toBe(
      'Its validation file file-valid cannot be fetched any more, so it is trained without.',
    );
    expect((await state()).jobs.every(({ heldOut }) => heldOut === null)).toBe(true);
  });

  test('has expired, but an earlier import has stored it: it is used', async () => {
    fillAccount();
    await run({ jobs: ['ftjob-first'] });
    openai.files.clear();
    const { jobs } = await run({ jobs: ['ftjob-again'] });
    expect(outcomes(jobs)).toEqual({ 'ftjob-again': 'posted' });
  });
});

describe('a source that fails', () => {
  test('at any request leaves a state from which the next import ends as one that was never interrupted', async () => {
    fillAccount();
    openai.models.set('ft:gpt-4o-mini-2024-07-18:acme:support:irst', ({ messages }) => ({
      content: `${JSON.stringify(messages)}`,
    }));
    const only = { jobs: ['ftjob-first', 'ftjob-graded'], recordAnswers: 2 };
    const whole = await run(only);
    const expected = await state();
    expect(whole.jobs.map(({ outcome }) => outcome)).toEqual(['posted', 'posted']);
    const requests = openai.requests.length;
    expect(requests).toBeGreaterThan(8);
    const places = Array.from({ length: requests }, (_, index) => index + 1);
    for (const failing of usualCases(places, 3)) {
      await useNewKey();
      openai.requests.length = 0;
      // Every other time the key is revoked; else the connection is cut, within the content where there is one.
      openai.onRequest = (_, number) => {
        if (number < failing) return null;
        return failing % 2 === 0 ? 'cut' : { status: 401, code: 'invalid_api_key' };
      };
      const code = failing % 2 === 0 ? 'openai_unavailable' : 'openai_access_denied';
      await expect(run(only)).rejects.toMatchObject({ code });
      openai.onRequest = () => null;
      await run(only);
      expect({ failing, ...(await state()) }).toEqual({ failing, ...expected });
    }
  }, 300_000);

  test('after some jobs says what was done', async () => {
    fillAccount();
    openai.onRequest = ({ path: asked }) => (asked.includes('file-pairs/content') ? { status: 401 } : null);
    await expect(run()).rejects.toMatchObject({
      code: 'openai_access_denied',
      message: expect.stringMatching(
        /refuses the key \(401\).*Until then 2 jobs were posted, 0 were there before, and 0 cannot be posted\. Import again/,
      ) as string,
    });
  });

  test('with an import that is interrupted at any request', async () => {
    fillAccount();
    for (const at of [1, 3, 5, 7, 9]) {
      const stop = new AbortController();
      openai.requests.length = 0;
      openai.onRequest = (_, number) => {
        if (number === at) stop.abort(new Error('interrupted'));
        return null;
      };
      await run({ signal: stop.signal }).catch((error: Error) => expect(error.message).toBe('interrupted'));
    }
    openai.onRequest = () => null;
    await run();
    expect((await state()).jobs.map(({ tags }) => tags)).toEqual([
      ['ftjob-again'],
      ['ftjob-first'],
      ['ftjob-graded'],
      ['ftjob-pairs'],
    ]);
  });
});

describe('recorded answers', () => {
  const OLD = 'ft:gpt-4o-mini-2024-07-18:acme:support:irst';

  test('are a dataset with their origin, which a job can be evaluated on', async () => {
    fillAccount();
    openai.models.set(OLD, ({ messages }) => {
      const { content } = (messages as { content: string }[]).at(-1)!;
      return content.endsWith('1') ? { content: null, refusal: 'No.' } : { content: `the old answer to ${content}` };
    });
    const { jobs } = await run({ jobs: ['ftjob-first'], recordAnswers: 10 });
    const dataset = await client().getDataset(jobs[0]!.answers!);
    expect(dataset).toMatchObject({
      name: 'answers of ftjob-first',
      tags: ['answers-ftjob-first'],
      rows: 2,
      format: 'messages',
    });
    expect(dataset.note).toMatch(
      /^Answers of ft:.*irst to 2 of 3 prompts of support-valid\.jsonl .* at temperature 0\./,
    );
    expect(dataset.note).toMatch(
      /Asked of http.* on \d{4}-\d\d-\d\d; the job was ftjob-first\.\nOpenAI's terms of use restrict/,
    );
    const { data } = await client().datasetRows(dataset.id);
    expect(JSON.parse(data[0]!.text)).toEqual({
      messages: [
        { role: 'system', content: 'Be short.' },
        { role: 'user', content: 'held out 0' },
        { role: 'assistant', content: 'the old answer to held out 0' },
      ],
    });
    const asked = openai.requests.filter(({ method }) => method === 'POST').length;
    const again = await run({ jobs: ['ftjob-first'], recordAnswers: 10 });
    expect([again.jobs[0]!.answers, again.jobs[0]!.outcome]).toEqual([dataset.id, 'imported']);
    expect(openai.requests.filter(({ method }) => method === 'POST')).toHaveLength(asked);
  });

  test('are missing where the model no longer answers, and the job is posted', async () => {
    fillAccount();
    const { jobs } = await run({ jobs: ['ftjob-first', 'ftjob-pairs'], recordAnswers: 2 });
    expect(jobs.map(({ outcome, answers }) => [outcome, answers])).toEqual([
      ['posted', null],
      ['posted', null],
    ]);
    expect(jobs[0]!.no_answers).toMatch(/no longer has the model ft:/);
    expect(jobs[1]!.no_answers).toBe('There is no validation file whose prompts could be asked.');
  });
});

describe('POST /imports/openai', () => {
  const post = (body: Partial<OpenaiImportRequest>, headers: Record<string, string> = {}) =>
    fetch(`${baseUrl}/imports/openai`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
      body: JSON.stringify({ base_model: MODEL, api_key: KEY, base_url: openai.baseUrl, ...body }),
    });
  const imported = async (body: Partial<OpenaiImportRequest> = {}) => {
    const events: OpenaiImportEvent[] = [];
    const request = { base_model: MODEL, api_key: KEY, base_url: openai.baseUrl, ...body };
    for await (const event of client().importFromOpenai(request)) events.push(event);
    return events;
  };

  test('does what the command does', async () => {
    fillAccount();
    const events = await imported();
    expect(events.map(({ type }) => type)).toEqual([
      ...Array(5).fill('job-planned'),
      ...['file-stored', 'file-stored', 'job-ended', 'job-ended'],
      ...['file-stored', 'job-ended', 'file-stored', 'job-ended', 'job-ended', 'import-ended'],
    ]);
    const own = await state();
    await useNewKey();
    await run();
    expect(await state()).toEqual(own);
  });

  test('only plans with dry_run', async () => {
    fillAccount();
    expect((await imported({ dry_run: true })).at(-1)).toMatchObject({
      type: 'import-ended',
      dry_run: true,
      planned: 4,
    });
    expect((await state()).jobs).toEqual([]);
  });

  test('ends with the error that ended it, and is continued by the same call', async () => {
    fillAccount();
    openai.onRequest = ({ path: asked }) => (asked.includes('file-pairs/content') ? { status: 401 } : null);
    await expect(imported()).rejects.toMatchObject({ code: 'openai_access_denied', status: 403 });
    openai.onRequest = () => null;
    expect((await imported()).at(-1)).toMatchObject({ posted: 2, imported: 2 });
  });

  test('gives what fails before the first event its status', async () => {
    openai.jobs = [];
    expect((await post({ api_key: 'sk-wrong' })).status).toBe(403);
    expect((await post({ base_model: 'none' })).status).toBe(404);
    expect((await post({ jobs: ['ftjob-none'] })).status).toBe(404);
  });

  test.each(['http://127.0.0.1:9/v1', 'http://169.254.169.254/latest', 'https://api.openai.com.evil.example/v1'])(
    'calls no address that the operator has not allowed: %s',
    async (base_url) => {
      const answer = await post({ base_url });
      expect(answer.status).toBe(403);
      expect(await answer.json()).toMatchObject({ error: { code: 'forbidden', param: 'base_url' } });
      expect(openai.requests).toEqual([]);
    },
  );

  test('is for keys that may change something, and makes what belongs to them', async () => {
    fillAccount();
    const reader = (await keys.create({ name: 'read', role: 'read' })).token;
    expect((await post({}, { authorization: `Bearer ${reader}` })).status).toBe(403);
    expect((await post({}, { authorization: 'Bearer none' })).status).toBe(401);
    await imported();
    const other = (await keys.create({ name: 'other', role: 'train' })).token;
    expect((await createClient({ baseUrl, apiKey: other }).listJobs()).data).toEqual([]);
  });

  test('ends when its client leaves, and the same call continues it', async () => {
    fillAccount();
    const stop = new AbortController();
    openai.onRequest = ({ path: asked }) => {
      if (asked.includes('file-pairs/content')) stop.abort();
      return null;
    };
    const request = { base_model: MODEL, api_key: KEY, base_url: openai.baseUrl };
    const leave = async () => {
      for await (const _ of client().importFromOpenai(request, { signal: stop.signal })) {
        // Until it is aborted.
      }
    };
    await expect(leave()).rejects.toThrow();
    openai.onRequest = () => null;
    await expect.poll(async () => (await imported()).at(-1)).toMatchObject({ imported: 4, failed: 0 });
    expect((await state()).jobs).toHaveLength(4);
  });
});

describe('the key of the other service', () => {
  const SECRET = 'sk-proj-ZQXSECRET0123456789';

  async function fileTexts(): Promise<string[]> {
    const names = await readdir(api.folder, { recursive: true });
    const texts = await Promise.all(
      names.map((name) => readFile(path.join(api.folder, name), 'latin1').catch(() => '')),
    );
    return [...names, ...texts];
  }

  test('is in no answer, no value of Redis and no file, whatever happens', async () => {
    fillAccount();
    openai.keys.add(SECRET);
    openai.files.set('file-pairs', { filename: 'tone.jsonl', content: 'no rows' });
    const answers: string[] = [];
    const send = async (body: string) => {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
      const answer = await fetch(`${baseUrl}/imports/openai`, { method: 'POST', headers, body });
      answers.push(JSON.stringify([...answer.headers]), await answer.text());
    };
    const body = (more: object = {}) =>
      JSON.stringify({ base_model: MODEL, base_url: openai.baseUrl, api_key: SECRET, ...more });
    await send(body());
    // Bodies that are refused, with the key near the fault.
    await send(`{"api_key": "${SECRET}" x}`);
    await send(`{"api_key": "${SECRET}`);
    await send(body({ api_key: `${SECRET} ` }));
    await send(body({ api_key: [SECRET] }));
    await send(body({ more: 1 }));
    await send(body({ base_url: 'http://127.0.0.1:9/v1' }));
    // A service that repeats the key, in every kind of error.
    for (const status of [400, 401, 403, 404, 409, 429, 500]) {
      openai.onRequest = () => ({ status, message: `no: ${SECRET}`, headers: { 'retry-after': '0' } });
      await send(body());
    }
    expect(answers.some((text) => text.includes('"type":"job-ended"'))).toBe(true);
    const texts = [...answers, ...(await redisTexts(redis, `${prefix}*`)), ...(await fileTexts())];
    expect(texts.length).toBeGreaterThan(50);
    expect(texts.filter((text) => text.includes('ZQXSECRET'))).toEqual([]);
    // The search would find it.
    await redis.set(`${prefix}probe`, SECRET);
    expect((await redisTexts(redis, `${prefix}*`)).some((text) => text.includes('ZQXSECRET'))).toBe(true);
  }, 60_000);
});
