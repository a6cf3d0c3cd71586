import { Readable } from 'node:stream';
import type { ModelPull } from '@lorasmith/contracts';
import { expect, it } from 'vitest';
import { failure, json, serve } from '../../test/http-server.js';
import { runCommandLine } from './run-command-line.js';

const pull: ModelPull = {
  id: 'pull_0123456789abcdef01234567',
  object: 'model_pull',
  name: 'tiny',
  repo: 'org/tiny',
  revision: 'main',
  commit: null,
  status: 'queued',
  files: [],
  total_bytes: 0,
  received_bytes: 0,
  error: null,
  created_at: '2026-11-26T00:00:00.000Z',
  started_at: null,
  ended_at: null,
};
const halfway: ModelPull = { ...pull, status: 'pulling', total_bytes: 4_000_000, received_bytes: 2_000_000 };
const done: ModelPull = {
  ...halfway,
  status: 'succeeded',
  commit: 'a'.repeat(40),
  received_bytes: 4_000_000,
  ended_at: '2026-11-26T00:00:01.000Z',
};

async function lora(args: string[], answers: Parameters<typeof serve>, terminal = false) {
  const server = await serve(...answers);
  let output = '';
  let errorOutput = '';
  const exitCode = await runCommandLine({
    args,
    version: '1.2.3',
    input: Readable.from([]),
    baseUrl: server.baseUrl,
    output: { isTTY: terminal, columns: 80, write: (text: string) => (output += text) },
    errorOutput: { write: (text: string) => (errorOutput += text) },
    signal: new AbortController().signal,
  });
  return { exitCode, output, errorOutput, requests: server.requests };
}

it('pulls a model and shows how far it is', async () => {
  const args = ['models', 'pull', 'org/tiny', '--revision', 'v1', '--name', 'tiny'];
  const { exitCode, output, requests } = await lora(args, [json(202, pull), json(200, halfway), json(200, done)], true);
  expect(exitCode).toBe(0);
  expect(JSON.parse(requests[0]!.body)).toEqual({ repo: 'org/tiny', revision: 'v1', name: 'tiny' });
  expect(requests[1]!.url).toBe(`/model-pulls/${pull.id}`);
  expect(output).toMatch(/2\.0 MB of 4\.0 MB \[█+·+\] +50 %/);
  expect(output).toContain(`tiny: 4.0 MB of commit ${'a'.repeat(40)}`);
});

it('fails with the reason, without control characters of it', async () => {
  const failed: ModelPull = {
    ...pull,
    status: 'failed',
    error: { code: 'hub_access_denied', message: 'org/tiny is gated.\u001b[31m Set HF_TOKEN.' },
    ended_at: pull.created_at,
  };
  const { exitCode, output } = await lora(['models', 'pull', 'org/tiny'], [json(202, pull), json(200, failed)]);
  expect(exitCode).toBe(1);
  expect(output).toContain('tiny: failed (hub_access_denied): org/tiny is gated.');
  expect(output).not.toContain('\u001b');
});

it('lists and cancels pulls, returns at once with --detach, and prints JSON', async () => {
  const listed = await lora(['models', 'pulls'], [json(200, { data: [halfway] })]);
  expect(listed.output).toMatch(/pull_0123456789abcdef01234567 +tiny +org\/tiny +main +2\.0 MB of 4\.0 MB/);
  const cancelled = await lora(['models', 'cancel-pull', pull.id], [json(202, halfway)]);
  expect(cancelled.output).toBe(`${pull.id} is being cancelled\n`);
  const detached = await lora(['models', 'pull', 'org/tiny', '--detach'], [json(202, pull)]);
  expect(detached.requests).toHaveLength(1);
  const asJson = await lora(['models', 'pull', 'org/tiny', '--json'], [json(202, pull), json(200, done)]);
  expect(JSON.parse(asJson.output)).toEqual(done);
});

it('prints the error of a refused pull', async () => {
  const { exitCode, errorOutput } = await lora(['models', 'pull', 'tiny'], [failure(400, 'invalid_request')]);
  expect([exitCode, errorOutput]).toEqual([1, expect.stringContaining('invalid_request')]);
});
