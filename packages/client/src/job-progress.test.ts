import type { JobEvent, NewJobEvent } from '@lorasmith/contracts';
import { describe, expect, it } from 'vitest';
import { createJobProgress, stepText } from './job-progress.js';

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
