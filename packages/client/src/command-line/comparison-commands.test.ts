import { Readable } from 'node:stream';
import type { Comparison, ComparisonResult } from '@lorasmith/contracts';
import { expect, it } from 'vitest';
import { json, serve } from '../../test/http-server.js';
import { runCommandLine } from './run-command-line.js';

const side = { base_model: 'tiny', adapter: null, answers: null, completion_format: 'chat' as const };
const queued: Comparison = {
  ...{ id: 'cmp_0123456789abcdef01234567', object: 'comparison', owner: null, name: null },
  models: [
    { ...side, name: 'dates' },
    { ...side, name: 'tiny' },
  ],
  dataset: 'ds_0123456789abcdef01234567',
  judge: { model: 'judge-1', rubric: 'The right one.' },
  ...{
    rows: 100,
    max_tokens: 256,
    temperature: 0,
    seed: 0,
    status: 'queued',
    progress: null,
    result: null,
    error: null,
  },
  ...{ created_at: '2026-12-01T00:00:00.000Z', started_at: null, ended_at: null },
};
const result: ComparisonResult = {
  ...{ rows: 100, wins: 15, losses: 5, ties: 80, identical: 7, failed: 1, win_rate: 0.55, interval: [0.5063, 0.5776] },
  ...{ verdict: 'a', position_bias: 0.25, order_decided: 23 },
  ...{ tokens: { answers: [1200, 900], judge: 34_000 }, failures: [{ reason: 'The row has no prompt.', rows: 1 }] },
};
const succeeded: Comparison = {
  ...queued,
  ...{ status: 'succeeded', result, progress: { rows: 101, total: 101 }, ended_at: '2026-12-01T00:09:00.000Z' },
};

async function lora(args: string[], answers: Parameters<typeof serve>) {
  const server = await serve(...answers);
  let output = '';
  let errorOutput = '';
  const exitCode = await runCommandLine({
    ...{ args, version: '1.2.3', input: Readable.from([]), baseUrl: server.baseUrl },
    output: { isTTY: false, columns: 80, write: (text: string) => (output += text) },
    errorOutput: { write: (text: string) => (errorOutput += text) },
    signal: new AbortController().signal,
  });
  return { exitCode, output, errorOutput, requests: server.requests };
}

const ARGS = [
  'compare',
  'dates',
  'tiny',
  '--dataset',
  queued.dataset,
  '--judge',
  'judge-1',
  '--rubric',
  'The right one.',
];

it('compares, waits for the end, and prints the table with a verdict that follows from the interval', async () => {
  const more = ['--judge-url', 'https://judge.example/v1', '--rows', '101', '--seed', '3'];
  const { exitCode, output, requests } = await lora([...ARGS, ...more], [json(202, queued), json(200, succeeded)]);
  expect(exitCode).toBe(0);
  expect(JSON.parse(requests[0]!.body)).toEqual({
    ...{ models: ['dates', 'tiny'], dataset: queued.dataset, rows: 101, seed: 3 },
    judge: { model: 'judge-1', url: 'https://judge.example/v1', rubric: 'The right one.' },
  });
  expect(output.split('\n')).toEqual([
    `${queued.id}: dates (a) and tiny (b), succeeded, 101 of 101 rows`,
    'ROWS  A WINS  B WINS  TIES  IDENTICAL  FAILED',
    ' 100      15       5    80          7       1',
    'a wins 55.0 % (95 %: 50.6 % to 57.8 %): dates is better',
    'Decided by the order alone: 25.0 % of the judged rows',
    'Tokens: 1,200 and 900 written by a and b, 34,000 of the judge',
    'Failed (1): The row has no prompt.',
    '',
  ]);
});

it('exits with 0 where it is undecided, with 1 where it failed, and prints JSON', async () => {
  const open = { ...succeeded, result: { ...result, interval: null, verdict: 'undecided' } };
  const undecided = await lora(ARGS, [json(202, queued), json(200, open)]);
  expect([undecided.exitCode, undecided.output]).toEqual([0, expect.stringContaining('a wins 55.0 %: undecided')]);
  const error = { code: 'judge_failed', message: 'The judge failed: it answered 401.', details: [] };
  const failed = await lora(ARGS, [
    json(202, queued),
    json(200, { ...succeeded, status: 'failed', result: null, error }),
  ]);
  expect([failed.exitCode, failed.output]).toEqual([1, expect.stringContaining('judge_failed: The judge failed')]);
  const asJson = await lora([...ARGS, '--json'], [json(202, queued), json(200, succeeded)]);
  expect(JSON.parse(asJson.output)).toEqual(succeeded);
});

it('names the options that are missing', async () => {
  const { exitCode, errorOutput, requests } = await lora(['compare', 'a', 'b', '--judge', 'x'], []);
  expect([exitCode, requests]).toEqual([1, []]);
  expect(errorOutput).toContain('--dataset ID, --judge MODEL and --rubric TEXT');
});

it('lists comparisons, and shows rows side by side', async () => {
  const page = { data: [succeeded, queued], has_more: false, next: null };
  const listed = await lora(['comparisons', 'list'], [json(200, page)]);
  expect(listed.output).toContain(`${queued.id}  -     dates  tiny  succeeded  55.0 %`);
  const row = {
    ...{ number: 1, line: 4, prompt: 'user: hi', reference: null, outcome: 'tie', error: null },
    answers: [{ text: 'yes', tokens: 1, is_cut: false }, null],
    verdicts: [{ prefers: 'b', text: 'Verdict: B', tokens: 9 }, null],
  };
  const rows = await lora(
    ['comparisons', 'rows', queued.id, '--after', '0'],
    [json(200, { data: [row], has_more: true, next: 1 })],
  );
  expect(rows.output.split('\n')).toEqual([
    ...['1. line 4: tie', 'user: hi', 'a: yes', 'b: -', 'a first: b. Verdict: B', 'more: --after 1', ''],
  ]);
  expect(rows.requests[0]!.url).toBe(`/comparisons/${queued.id}/rows?after=0`);
});
