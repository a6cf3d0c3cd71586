import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { promptRows, type RealApi, startRealApi } from '../../../services/api/test/real-api.js';
import { type HubServer, hubRepo, startHubServer } from '../../../test/hub-server.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { runCommandLine } from '../src/command-line/run-command-line.js';
import { createClient } from '../src/index.js';

// `lora datasets pull`, with a real api and a server that answers as the hub does.

const FIXTURES = path.join(import.meta.dirname, '../../row-files/src/fixtures');
const REPO = 'org/rows';
const TOKEN = 'hf_aSecretToken';

let server: RealRedis;
let api: RealApi;
let url: string;
let hub: HubServer;
let temporary: string;
/** Rows that no other test has, so that each has a dataset of its own. */
let rows: string;
let tests = 0;

beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await api?.stop();
  await server?.stop();
});
beforeEach(async () => {
  hub = await startHubServer();
  temporary = await mkdtemp(path.join(tmpdir(), 'lorasmith-pull-test-'));
  vi.stubEnv('TMPDIR', temporary);
  rows = promptRows(30, `of test ${++tests}`);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  expect(await readdir(temporary)).toEqual([]);
  await rm(temporary, { recursive: true });
});

/** Adds a repository to the hub. */
function offer(files: Record<string, Buffer | string>, options: Parameters<typeof hubRepo>[1] = {}) {
  hub.repos.set(`datasets/${REPO}`, hubRepo(files, options));
}

async function pull(
  args: string[] = [],
  environment: Record<string, string> = {},
  signal = new AbortController().signal,
) {
  const written = { output: '', errorOutput: '' };
  const exitCode = await runCommandLine({
    args: ['datasets', 'pull', REPO, ...args],
    version: '1.2.3',
    baseUrl: url,
    hubEnvironment: { HF_ENDPOINT: hub.url, ...environment },
    input: Readable.from([]),
    output: { write: (text: string) => (written.output += text) },
    errorOutput: { write: (text: string) => (written.errorOutput += text) },
    signal,
  });
  return { exitCode, ...written };
}

async function pulled(args: string[] = [], environment: Record<string, string> = {}) {
  const { exitCode, output, errorOutput } = await pull([...args, '--json'], environment);
  expect([exitCode, errorOutput]).toEqual([0, '']);
  return JSON.parse(output);
}
const client = () => createClient({ baseUrl: url });
const textOf = async (id: string) =>
  (await client().datasetRows(id, { limit: 100 })).data.map(({ text }) => JSON.parse(text));
const fixture = (name: string) => readFile(path.join(FIXTURES, name));
const stored = async () => (await client().listDatasets()).total;

test('a file is fetched at one commit, checked and uploaded, with a note of where it comes from', async () => {
  offer({ 'README.md': '# Rows', 'train.jsonl': rows, 'test.jsonl': promptRows(3) });
  const { exitCode, output } = await pull();
  expect(exitCode).toBe(0);
  expect(output).toMatch(/^ds_[0-9a-f]{24} {2}30 rows, prompt_completion, .*\nfrom train\.jsonl, commit a{12}\n$/);
  const dataset = await client().getDataset(output.slice(0, 27));
  expect(dataset).toMatchObject({
    name: 'rows',
    rows: 30,
    note: `From ${hub.url}/datasets/org/rows, revision main, commit ${'a'.repeat(40)}:\ntrain.jsonl`,
  });
  expect(await textOf(dataset.id)).toEqual(
    rows
      .trimEnd()
      .split('\n')
      .map((row) => JSON.parse(row)),
  );
  const asked = hub.requests.map(({ path: one }) => one).filter((one) => one.includes('/resolve/'));
  expect(asked.every((one) => one.startsWith(`/datasets/org/rows/resolve/${'a'.repeat(40)}/train.jsonl`))).toBe(true);
});

test('the shards of a split of Parquet are one dataset, with the columns that rows have', async () => {
  const shard = await fixture('pairs-zstd.parquet');
  const names = ['data/train-00000-of-00002.parquet', 'data/train-00001-of-00002.parquet'];
  offer({
    [names[1]!]: await fixture('pairs-gzip.parquet'),
    'data/test-00000-of-00001.parquet': shard,
    [names[0]!]: shard,
  });
  const dataset = await pulled(['--name', 'pairs']);
  const pairs = JSON.parse((await fixture('pairs.json')).toString());
  expect(dataset).toMatchObject({
    name: 'pairs',
    rows: 2 * pairs.length,
    note: expect.stringContaining(names.join('\n')),
  });
  // The rows of one shard alone, as an upload of its file has them.
  const one = await client().uploadDataset({ chunks: Readable.from([shard]) });
  const [ofBoth, ofOne] = [await textOf(dataset.id), await textOf(one.id)];
  expect(ofBoth.slice(0, Math.min(100, ofOne.length))).toEqual(ofOne);
});

test('columns with other names are mapped, of one file and of several', async () => {
  const lines = (from: number) => `question,answer\n${from},a ${tests}\n${from + 1},b\n`;
  offer({ 'train.csv': lines(1), 'test-00000-of-00002.csv': lines(3), 'test-00001-of-00002.csv': lines(5).trimEnd() });
  const columns = ['--columns', 'prompt:question,completion:answer'];
  expect(await textOf((await pulled(columns)).id)).toEqual([
    { prompt: '1', completion: `a ${tests}` },
    { prompt: '2', completion: 'b' },
  ]);
  const both = await textOf((await pulled([...columns, '--split', 'test'])).id);
  expect(both.map(({ prompt }) => prompt)).toEqual(['3', '4', '5', '6']);
  const refused = await pull();
  expect([refused.exitCode, refused.errorOutput]).toEqual([1, expect.stringContaining('question')]);
});

test('another revision is pulled, and a file that is named', async () => {
  offer({ 'a/rows.jsonl': rows, 'b/rows.jsonl': promptRows(2, 'b') });
  hub.repos.get(`datasets/${REPO}`)!.revisions.push('refs/convert/parquet');
  const ambiguous = await pull();
  expect(ambiguous.exitCode).toBe(1);
  expect(ambiguous.errorOutput).toContain('several files of the split "train": a/rows.jsonl, b/rows.jsonl.');
  const dataset = await pulled(['--file', 'a/rows.jsonl', '--revision', 'refs/convert/parquet']);
  expect(dataset).toMatchObject({
    rows: 30,
    note: expect.stringContaining('revision refs/convert/parquet, commit aaaa'),
  });
});

test('a note that the dataset has stays', async () => {
  offer({ 'train.jsonl': rows });
  const { id } = await client().uploadDataset({ text: rows });
  await client().changeDataset(id, { note: 'my own' });
  expect(await pulled()).toMatchObject({ id, note: 'my own' });
});

test('a lost connection is continued, and a file with another digest is fetched once more and then refused', async () => {
  const large = promptRows(400, `of test ${tests} with lines that are long enough`);
  offer({ 'train.jsonl': large });
  hub.faults.cuts = { times: 1, afterBytes: 5_000 };
  expect(await pulled()).toMatchObject({ rows: 400 });
  const ranges = hub.requests.filter(({ server: of }) => of === 'store').map(({ range }) => range);
  expect(ranges).toContain('bytes=5000-');
  const before = await stored();
  offer({ 'train.jsonl': large.replaceAll('lines', 'words') });
  hub.faults.corrupt.times = 2;
  const { exitCode, errorOutput } = await pull();
  expect([exitCode, errorOutput]).toEqual([1, expect.stringMatching(/^hub_file_corrupt: .*train\.jsonl came twice/)]);
  expect(await stored()).toBe(before);
});

test('a private dataset needs a token, which the hub alone receives', async () => {
  offer(
    { 'train.jsonl': promptRows(400, `private ${tests} and long enough to be stored elsewhere`) },
    { token: TOKEN, gated: true },
  );
  const without = await pull();
  expect(without.errorOutput).toMatch(
    /^hub_access_denied: org\/rows is gated: accept its terms at http.*\/datasets\/org\/rows, then set HF_TOKEN to/,
  );
  const wrong = await pull([], { HF_TOKEN: 'hf_another' });
  expect(wrong.errorOutput).toContain('The token in HF_TOKEN may not read org/rows.');
  expect(await pulled([], { HF_TOKEN: TOKEN })).toMatchObject({ rows: 400 });
  const ofStore = hub.requests.filter(({ server: of }) => of === 'store');
  expect(ofStore.length).toBeGreaterThan(0);
  expect(ofStore.every(({ authorization }) => authorization === null)).toBe(true);
});

test.each<[string, string[], Record<string, string>, string]>([
  ['a dataset that there is not', [], { HF_TOKEN: TOKEN }, 'hub_dataset_not_found: There is no dataset org/rows at'],
  ['no connection', [], { HF_HUB_OFFLINE: '1' }, 'hub_offline: HF_HUB_OFFLINE is set'],
  ['an address that is none', [], { HF_ENDPOINT: 'hub' }, 'invalid_request: HF_ENDPOINT is not an address'],
  ['a token that is none', [], { HF_TOKEN: 'a b' }, 'invalid_request: HF_TOKEN is not a token'],
  ['a revision that is none', ['--revision', '../x'], {}, 'invalid_request: "../x" is no branch, tag or commit.'],
  ['columns that are none', ['--columns', ':'], {}, 'invalid_request: '],
])('names %s', async (_what, args, environment, message) => {
  const { exitCode, errorOutput } = await pull(args, environment);
  expect([exitCode, errorOutput]).toEqual([1, expect.stringContaining(message)]);
});

test('rows that the service refuses are named with their lines, and nothing is stored', async () => {
  offer({ 'train.jsonl': `${rows}{"prompt":"without a completion"}\n` });
  const before = await stored();
  const { exitCode, errorOutput } = await pull();
  expect([exitCode, errorOutput]).toEqual([1, expect.stringMatching(/^invalid_dataset: [\s\S]*line 31/)]);
  expect(await stored()).toBe(before);
});

test('a pull that is interrupted stores nothing', async () => {
  offer({ 'train.jsonl': promptRows(400, `held ${tests} and long enough to be stored elsewhere, on another server`) });
  hub.faults.holdAfterBytes = 100;
  const before = await stored();
  const interruption = new AbortController();
  const pulling = pull([], {}, interruption.signal);
  await vi.waitUntil(() => hub.requests.some(({ server: of, range }) => of === 'store' && range === null), 30_000);
  interruption.abort();
  expect((await pulling).exitCode).toBe(130);
  expect(await stored()).toBe(before);
});
