import type { WorkerStartPhase } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { announceStart } from './worker-readiness.js';

test('each phase is announced at once, and nothing after the end, also while Redis fails', async () => {
  const said: string[] = [];
  const starts = {
    async announce(_: string, phase: WorkerStartPhase) {
      said.push(phase);
      if (phase === 'self-test') throw new Error('Redis is away');
    },
    async end() {
      said.push('end');
    },
  };
  const start = announceStart(starts, 'w');
  for (const phase of ['self-test', 'measuring'] as const) {
    start.enter(phase);
    await expect.poll(() => said.at(-1)).toBe(phase);
  }
  await start.end();
  expect(said).toEqual(['starting', 'self-test', 'measuring', 'end']);
});
