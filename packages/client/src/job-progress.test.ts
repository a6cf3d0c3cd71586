import type { JobEvent, NewJobEvent } from '@lorasmith/contracts';
import { describe, expect, it, test } from 'vitest';
import { createJobProgress, stepText, worseOnHeldOutRows, worseText } from './job-progress.js';

const stepData = (step: number) => ({
  step,
  total_steps: 150,
  epoch: 1,
  loss: 0.41234,
  accuracy: 0.5,
  learning_rate: 1e-4,
  grad_norm: 1,
  tokens_per_second: 611.6,
  seconds_left: 80,
});
const event = (one: NewJobEvent) => ({ ...one, id: '1-0', job: 'job_1', created_at: '' }) as JobEvent;
const step = (number: number) => event({ type: 'step-finished', data: stepData(number) });

function capture(terminal: { isTTY?: boolean; columns?: number }) {
  const output = { text: '', ...terminal, write: (text: string) => (output.text += text) };
  return output;
}

describe('stepText', () => {
  it('shows step, loss, speed and remaining time', () => {
    expect(stepText(stepData(42), 100)).toBe(
      ' 42/150 [████████······················]  28 %  loss 0.412  612 tokens/s  1 min 20 s left',
    );
  });

  it.each([20, 40, 60, 79, 80, 81, 120])('never fills a line of %i columns', (columns) => {
    expect(stepText(stepData(150), columns).length).toBeLessThan(columns);
  });
});

describe('createJobProgress', () => {
  it('redraws one bar on a terminal, and prints other events below it', () => {
    const output = capture({ isTTY: true, columns: 100 });
    const progress = createJobProgress(output);
    progress.handle(step(1));
    progress.handle(event({ type: 'checkpoint-saved', data: { step: 1 } }));
    progress.handle(step(2));
    progress.handle(event({ type: 'adapter-published', data: { adapter: 'ad_1' } }));
    expect(output.text).toBe(
      `\r\x1b[2K${stepText(stepData(1), 100)}\r\x1b[2K${stepText(stepData(2), 100)}\nadapter ad_1 is published\n`,
    );
  });

  it('shows how far the rows are tokenized', () => {
    const tokenized = (rows: number) => event({ type: 'tokenizing-progressed', data: { rows, total_rows: 46_864 } });
    const [terminal, file] = [capture({ isTTY: true, columns: 60 }), capture({})];
    for (const output of [terminal, file]) {
      const progress = createJobProgress(output, { now: () => 0 });
      for (const rows of [9_728, 20_000, 46_864]) progress.handle(tokenized(rows));
    }
    const bars = terminal.text.split('\r\x1b[2K').slice(1);
    expect(bars[0]).toBe(' 9,728/46,864 rows tokenized [████·················]  20 %');
    expect(bars).toHaveLength(3);
    expect(file.text.split('\n').map((line) => line.slice(0, 13))).toEqual([' 9,728/46,864', '46,864/46,864', '']);
  });

  it('ends the line of an open bar, once', () => {
    const output = capture({ isTTY: true });
    const progress = createJobProgress(output);
    progress.handle(step(1));
    progress.end();
    progress.end();
    expect(output.text.endsWith('left\n')).toBe(true);
  });

  it('without a terminal, writes a line every ten seconds, and always the last step', () => {
    let clock = 0;
    const output = capture({});
    const progress = createJobProgress(output, { now: () => clock });
    for (const [seconds, number] of [
      [0, 1],
      [9, 20],
      [10, 21],
      [11, 150],
    ] as const) {
      clock = seconds * 1000;
      progress.handle(step(number));
    }
    const lines = output.text.trimEnd().split('\n');
    expect(lines.map((line) => line.trim().split('/')[0])).toEqual(['1', '21', '150']);
    expect(output.text).not.toContain('\x1b');
  });

  it('prints every fault of a failed job', () => {
    const output = capture({});
    const error = {
      code: 'row_too_long',
      message: 'Two rows are too long.',
      details: [
        { code: 'x', message: 'Row 7.' },
        { code: 'x', message: 'Too long.', line: 8 },
      ],
    };
    createJobProgress(output).handle(event({ type: 'job-failed', data: { error } }));
    expect(output.text).toBe('failed (row_too_long): Two rows are too long.\n  Row 7.\n  line 8: Too long.\n');
  });
});

const at = (step: number, loss: number) => ({ step, loss });
const text = (value: number) => String(value);

test('a loss that rose is worse, and says when it was best', () => {
  const worse = worseOnHeldOutRows([at(0, 0.69), at(10, 0.5), at(20, 10.7)])!;
  expect(worse).toEqual({ before: at(0, 0.69), after: at(20, 10.7), best: at(10, 0.5) });
  expect(worseText(worse, text)).toBe(
    'The held-out loss rose from 0.69 to 10.7: the adapter is worse than its base model on rows that it has not seen. It was best after step 10 (0.5): train fewer steps, or set training.publish to best.',
  );
});

test('a loss that was never better asks for a lower learning rate', () => {
  const worse = worseOnHeldOutRows([at(0, 0.69), at(20, 10.7)])!;
  expect(worseText(worse, text)).toContain('Lower the learning rate');
});

test('the state that was published counts', () => {
  const evaluations = [at(0, 0.69), at(10, 0.5), at(20, 10.7)];
  expect(worseOnHeldOutRows(evaluations, 10)).toBeNull();
  expect(worseOnHeldOutRows(evaluations, 20)).not.toBeNull();
});

test('a reward that fell is worse, in its own numbers', () => {
  const graded = (step: number, reward: number) => ({ step, loss: -reward, group: { reward } }) as never;
  const worse = worseOnHeldOutRows([graded(0, 0.5), graded(4, 0.2)])!;
  expect(worseText(worse, text)).toContain('The held-out reward fell from 0.5 to 0.2');
});

test.each([
  ['none', []],
  ['one', [at(0, 1)]],
  ['a lower one', [at(0, 1), at(5, 0.9)]],
  ['one that is the same but for rounding', [at(0, 1), at(5, 1.005)]],
  ['one after a restart, without that of the base model', [at(5, 1), at(10, 2)]],
])('evaluations with %s are not worse', (_, evaluations) => {
  expect(worseOnHeldOutRows(evaluations)).toBeNull();
});
