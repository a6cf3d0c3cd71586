import { Readable } from 'node:stream';
import type { Delivery } from '@lorasmith/contracts';
import { expect, it } from 'vitest';
import { json, serve } from '../../test/http-server.js';
import { runCommandLine } from './run-command-line.js';

const ADAPTER = 'ad_0123456789abcdef01234567';
const queued: Delivery = {
  id: 'dl_0123456789abcdef01234567',
  object: 'delivery',
  adapter: ADAPTER,
  owner: null,
  job: null,
  alias: null,
  to: { kind: 'vllm', url: 'http://gpu:8000', name: 'dates' },
  status: 'queued',
  attempts: 0,
  next_attempt_at: null,
  error: null,
  probe: null,
  replaced: null,
  created_at: '2026-11-26T00:00:00.000Z',
  started_at: null,
  ended_at: null,
};
const delivered: Delivery = {
  ...queued,
  status: 'delivered',
  probe: { verdict: 'adapter', adapter_distance: 0.0312, base_distance: 3.5 },
  replaced: 'ad_0123456789abcdef01234568',
  ended_at: '2026-11-26T00:00:09.000Z',
};

async function lora(args: string[], answers: Parameters<typeof serve>, hubEnvironment: Record<string, string> = {}) {
  const server = await serve(...answers);
  let output = '';
  let errorOutput = '';
  const exitCode = await runCommandLine({
    args,
    version: '1.2.3',
    hubEnvironment,
    input: Readable.from([]),
    baseUrl: server.baseUrl,
    output: { isTTY: false, columns: 80, write: (text: string) => (output += text) },
    errorOutput: { write: (text: string) => (errorOutput += text) },
    signal: new AbortController().signal,
  });
  return { exitCode, output, errorOutput, requests: server.requests };
}

it('delivers to a server, and returns at once or waits for the end', async () => {
  const args = ['deliver', ADAPTER, '--vllm', 'http://gpu:8000', '--name', 'dates'];
  const atOnce = await lora(args, [json(202, queued)]);
  expect([atOnce.exitCode, atOnce.output]).toEqual([0, `${queued.id}  dates at http://gpu:8000  queued\n`]);
  expect(atOnce.requests[0]!.url).toBe(`/adapters/${ADAPTER}/deliveries`);
  expect(JSON.parse(atOnce.requests[0]!.body)).toEqual(queued.to);
  const waited = await lora([...args, '--wait'], [json(202, queued), json(200, delivered)]);
  expect(waited.exitCode).toBe(0);
  expect(waited.output).toBe(
    `dates at http://gpu:8000: delivered, in place of ${delivered.replaced}, answers differ by 0.031 from the adapter's\n`,
  );
});

it('exits with 1 and the reason, without control characters of it, if it failed', async () => {
  const error = { code: 'delivery_refused', message: 'It refused.\u001b[31m' };
  const failed: Delivery = { ...queued, status: 'failed', error, ended_at: queued.created_at };
  const args = ['deliver', ADAPTER, '--folder', '--name', 'dates', '--per-expert', '--wait'];
  const { exitCode, output, requests } = await lora(args, [json(202, queued), json(200, failed)]);
  expect(exitCode).toBe(1);
  expect(output).toContain('failed (delivery_refused): It refused.');
  expect(output).not.toContain('\u001b');
  expect(JSON.parse(requests[0]!.body)).toEqual({ kind: 'folder', name: 'dates', layout: 'per-expert' });
});

it('lists and cancels deliveries', async () => {
  const listed = await lora(['deliveries', 'list', ADAPTER], [json(200, { data: [delivered, queued] })]);
  expect(listed.output).toMatch(/dl_0123456789abcdef01234567 +dates at http:\/\/gpu:8000 .* delivered, in place of/);
  const cancelled = await lora(['deliveries', 'cancel', queued.id], [json(202, queued)]);
  expect(cancelled.output).toBe(`${queued.id} is being cancelled\n`);
});

it.each([
  ['no target', ['--name', 'dates']],
  ['two targets', ['--name', 'dates', '--folder', '--vllm', 'http://gpu:8000']],
  ['no name', ['--folder']],
])('refuses a delivery with %s before it asks', async (_, options) => {
  const { exitCode, errorOutput, requests } = await lora(['deliver', ADAPTER, ...options], [json(202, queued)]);
  expect([exitCode, requests]).toEqual([1, []]);
  expect(errorOutput).toMatch(/needs one of --vllm URL|need --name NAME/);
});

it('has a place follow a name beside those that do, ends it, and shows the deliveries of the present move', async () => {
  const folder = { kind: 'folder', name: 'bot' };
  const alias = { name: 'bot', deliver: [folder] };
  const one = await lora(
    ['alias', 'deliver', 'bot', '--vllm', 'http://gpu:8000', '--name', 'dates'],
    [json(200, alias), json(200, alias), json(200, { data: [delivered] })],
  );
  expect([one.exitCode, one.errorOutput]).toEqual([0, '']);
  expect(one.output).toContain('delivered, in place of ad_');
  expect(one.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'GET /aliases/bot',
    'PUT /aliases/bot/deliveries',
    'GET /aliases/bot/deliveries',
  ]);
  expect(JSON.parse(one.requests[1]!.body)).toEqual({ deliver: [folder, queued.to] });
  const none = await lora(['alias', 'deliver', 'bot', '--none'], [json(200, alias), json(200, { data: [] })]);
  expect(JSON.parse(none.requests[0]!.body)).toEqual({ deliver: [] });
  const shown = await lora(['alias', 'deliver', 'bot'], [json(200, { data: [delivered] })]);
  expect(shown.requests.map(({ method }) => method)).toEqual(['GET']);
});

it.each([
  [['--hub', 'my-org/dates'], { kind: 'hub', repository: 'my-org/dates' }, 'hub my-org/dates'],
  [
    ['--hub', 'my-org/dates', '--merged', '--public', '--revision', 'next'],
    { kind: 'hub', repository: 'my-org/dates', merged: true, private: false, revision: 'next' },
    'hub my-org/dates (next)',
  ],
  [
    ['--s3', 's3://models/teams/dates/', '--per-expert'],
    { kind: 's3', bucket: 'models', prefix: 'teams/dates', layout: 'per-expert' },
    's3://models/teams/dates',
  ],
  [
    ['--s3', 'models/dates', '--merged'],
    { kind: 's3', bucket: 'models', prefix: 'dates', merged: true },
    's3://models/dates',
  ],
])('delivers with %j', async (options, to, place) => {
  const answer = json(202, { ...queued, to });
  const { exitCode, output, requests } = await lora(['deliver', ADAPTER, ...options], [answer]);
  expect([exitCode, output]).toEqual([0, `${queued.id}  ${place}  queued\n`]);
  expect(JSON.parse(requests[0]!.body)).toEqual(to);
});

it.each([
  [['--hub', 'a/b', '--name', 'x'], '--name is not an option of --hub'],
  [['--folder', '--name', 'x', '--merged'], '--merged is not an option of --folder'],
  [['--s3', 'models'], '--s3 is s3://BUCKET/PREFIX'],
])('refuses %j before it asks', async (options, message) => {
  const { exitCode, errorOutput, requests } = await lora(['deliver', ADAPTER, ...options], [json(202, queued)]);
  expect([exitCode, requests]).toEqual([1, []]);
  expect(errorOutput).toContain(message);
});

it('stores the token of HF_TOKEN, shows only that there is one, and removes it', async () => {
  const stored = { object: 'hub_token', stored_at: '2026-12-01T00:00:00.000Z' };
  const set = await lora(['hub-token', 'set'], [json(200, stored)], { HF_TOKEN: 'hf_geheim123' });
  expect([set.exitCode, set.output]).toEqual([0, 'There is a token, stored at 2026-12-01T00:00:00.000Z.\n']);
  expect(set.requests[0]).toMatchObject({ method: 'PUT', url: '/hub-token', body: '{"token":"hf_geheim123"}' });
  const without = await lora(['hub-token', 'set'], [json(200, stored)]);
  expect([without.exitCode, without.requests]).toEqual([1, []]);
  expect(without.errorOutput).toContain('Set HF_TOKEN');
  const none = await lora(['hub-token', 'show'], [json(200, { ...stored, stored_at: null })]);
  expect(none.output).toBe('There is no token.\n');
  const removed = await lora(['hub-token', 'remove'], [(response) => void response.writeHead(204).end()]);
  expect([removed.exitCode, removed.requests[0]?.method]).toEqual([0, 'DELETE']);
});
