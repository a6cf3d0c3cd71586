import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JobStatus, Sweep } from '@lorasmith/contracts';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { json } from '../../test/http-server.js';
import { lora } from '../../test/run-lora.js';
import { sweepExclusionOf, sweepProgressText } from '../sweep-text.js';
import { EXIT } from './run-command-line.js';
import { spaceOf } from './sweep-commands.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorasmith-cli-'));
});
afterEach(() => rm(folder, { recursive: true }));

test('values are a list, or a range with its scale and how many', () => {
  expect(
    spaceOf([
      'lora.r=4,8,16',
      'training.learning_rate=1e-4..3e-3:log',
      'lora.alpha=8..32:3',
      'training.weight_decay=0..0.1:linear:5',
      'lora.use_rslora=true, false',
      'training.lr_scheduler=cosine',
      'training.max_grad_norm=1,null',
      'lora.target_modules="all-linear", ["q_proj", "v_proj"]',
      'training.optimizer=[adamw',
    ]),
  ).toEqual({
    'lora.r': { values: [4, 8, 16] },
    'training.learning_rate': { range: { from: 1e-4, to: 3e-3, scale: 'log' } },
    'lora.alpha': { range: { from: 8, to: 32, count: 3 } },
    'training.weight_decay': { range: { from: 0, to: 0.1, scale: 'linear', count: 5 } },
    'lora.use_rslora': { values: [true, false] },
    'training.lr_scheduler': { values: ['cosine'] },
    'training.max_grad_norm': { values: [1, null] },
    'lora.target_modules': { values: ['all-linear', ['q_proj', 'v_proj']] },
    'training.optimizer': { values: ['[adamw'] },
  });
});

test('what is no range stays text, which the server refuses', () => {
  expect(spaceOf(['lora.r=a..b'])).toEqual({ 'lora.r': { values: ['a..b'] } });
});

test.each([
  [['lora.r'], 'needs a field and its values'],
  [['=4'], 'needs a field and its values'],
  [['lora.r='], 'needs a field and its values'],
  [['lora.r=4', 'lora.r=8'], 'the field is there twice'],
])('%j is refused', (texts, message) => {
  expect(() => spaceOf(texts)).toThrow(message);
});

test('combinations to leave out are values and ranges with one end or both', () => {
  expect(sweepExclusionOf('lora.r=8,16 & training.learning_rate=1e-3.. &training.epochs=1..2& lora.alpha=..4')).toEqual(
    {
      'lora.r': { values: [8, 16] },
      'training.learning_rate': { from: 1e-3 },
      'training.epochs': { from: 1, to: 2 },
      'lora.alpha': { to: 4 },
    },
  );
});

test.each([
  ['', { '': { values: [''] } }],
  ['lora.r', { 'lora.r': { values: [''] } }],
  ['lora.r=..', { 'lora.r': { values: ['..'] } }],
  ['lora.r=a..4', { 'lora.r': { values: ['a..4'] } }],
])('an exclusion %j that is none is sent for the server to refuse', (text, sent) => {
  expect(sweepExclusionOf(text)).toEqual(sent);
});

test('progress counts jobs by what they do, and says after which steps those are that train', () => {
  const variant = (status: JobStatus, step: number | null) => ({
    status,
    progress:
      step === null ? null : { step, total_steps: 1_200, epoch: 1, loss: 1, tokens_per_second: 1, seconds_left: 1 },
  });
  const textOf = (...variants: ReturnType<typeof variant>[]) =>
    sweepProgressText({ variants: variants as unknown as Sweep['variants'] });
  expect(textOf(variant('queued', null), variant('preparing', null))).toBe('0 of 2 have ended, 1 training, 1 waiting');
  expect(textOf(variant('succeeded', 1_200), variant('running', 1_000), variant('running', 96))).toBe(
    '1 of 3 have ended, 2 training (after steps 96 to 1,000 of 1,200)',
  );
  expect(textOf(variant('running', 7), variant('running', null))).toBe(
    '0 of 2 have ended, 2 training (after step 7 of 1,200)',
  );
});

describe('lora sweep', () => {
  const DATASET = { id: 'ds_0123456789abcdef01234567', rows: 2, format: 'text', bytes: 10, warnings: [] };
  const JOB = 'job_0123456789abcdef01234567';
  const variant = {
    variant: 1,
    values: { 'lora.r': 4 },
    job: JOB,
    status: 'succeeded',
    metric: 0.25,
    step: 3,
    rank: 1,
  };
  const second = { ...variant, variant: 2, values: { 'lora.r': 8 }, metric: null, rank: null, status: 'failed' };
  const stopped = { ...second, variant: 3, status: 'cancelled', stopped_at_rung: 2, adapter: null, error: null };
  const sweep = {
    id: 'sw_0123456789abcdef01234567',
    status: 'succeeded',
    metric: 'loss',
    best: JOB,
    ended_at: 'now',
    variants: [
      { ...second, adapter: null, error: { code: 'non_finite_loss', message: '', details: [] } },
      { ...variant, adapter: 'ad_0123456789abcdef01234567', error: null },
      stopped,
    ],
  };
  const planned = { ...variant, steps: 3, error: null };
  const plan = { jobs: 1, variants: [planned], tokens: 1234, seconds: 60, at_once: 1, peak_memory_bytes: 1e9 };

  it('plans the variants of a file, starts them with a key of their own, and prints them in their order', async () => {
    const file = join(folder, 'rows.jsonl');
    await writeFile(file, '{"text":"a"}\n');
    const args = [
      'sweep',
      file,
      '--model',
      'm',
      '--over',
      'lora.r=4,8',
      '--epochs',
      '1',
      '--yes',
      '--publish-best',
      '2',
      '--halving',
      '3',
    ];
    const found = json(200, { data: [DATASET], has_more: false, next: null });
    const answers = [json(200, {}), found, json(200, plan), json(202, sweep), json(200, sweep)];
    const { exitCode, output, requests } = await lora(args, ...answers);
    expect([exitCode, requests.map(({ method, url }) => `${method} ${url.split('&')[0]}`)]).toEqual([
      EXIT.done,
      [
        'GET /models/m',
        expect.stringContaining('GET /datasets?'),
        'POST /sweeps?dry_run=true',
        'POST /sweeps',
        `GET /sweeps/${sweep.id}`,
      ],
    ]);
    expect(JSON.parse(requests[3]!.body)).toEqual({
      job: { base_model: 'm', dataset: DATASET.id, training: { epochs: 1 }, validation: { split: 0.1 } },
      space: { 'lora.r': { values: [4, 8] } },
      publish_best: 2,
      halving: { first_steps: 3 },
    });
    expect(requests[3]!.body).toBe(requests[2]!.body);
    expect(requests[3]!.headers['idempotency-key']).toMatch(/^lora-sweep-[0-9a-f]{64}$/);
    expect(output).toContain('1,234 tokens in all, about 1 min 00 s one after the other; 1 at once fit');
    const [first, failed, last] = output.trimEnd().split('\n').slice(-4, -1);
    expect(first).toMatch(/^1 +1 +4 +0\.25000 +succeeded +job_\w+ +ad_\w+$/);
    expect(failed).toMatch(/^- +2 +8 +- +failed: non_finite_loss/);
    expect(last).toMatch(/^- +3 +8 +- +stopped at a rung +job/);
    expect(output).toContain(`${sweep.id} succeeded; the best is ${JOB}`);
  });

  it.each([
    [['sweep', 'rows.jsonl', '--over', 'lora.r=4'], 'lora sweep needs --model NAME'],
    [['sweep', 'rows.jsonl', '--model', 'm'], 'a field to vary'],
    [['sweep', 'rows.jsonl', '--model', 'm', '--over', 'lora.r=4'], 'There is no terminal'],
  ])('says what is missing in %j before any request', async (args, message) => {
    const { exitCode, errorOutput, requests } = await lora(args, json(200, {}));
    expect([exitCode, requests]).toEqual([EXIT.failed, []]);
    expect(errorOutput).toContain(message);
  });
});
