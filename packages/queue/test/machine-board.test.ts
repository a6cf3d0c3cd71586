import type { MachineProfile } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { aMachine } from '../../../test/a-machine.js';
import { store, useJobStore } from './real-job-store.js';

useJobStore();
const profile = (worker: string, changes: Partial<MachineProfile> = {}) =>
  aMachine({ worker, measured_at: '2026-11-26T00:00:00.000Z', memory_bytes: 24e9, ...changes });
const run = (worker: string) => store.queue.announce(worker, { slots: 1, held: [] });
const names = async () => (await store.machines.list()).map(({ worker }) => worker);

test('a job is planned for the largest machine that runs, or that would be started', async () => {
  expect(await store.machines.forPlanning()).toBeNull();
  const small = profile('small', { memory_bytes: 24e9, measured_at: '2026-11-28T00:00:00.000Z' });
  const large = profile('large', { memory_bytes: 80e9, processor: 'a larger one' });
  await store.machines.publish(small);
  await store.machines.publish(large);
  // Nothing runs: both may.
  expect(await store.machines.forPlanning()).toEqual(large);
  await run('small');
  expect(await store.machines.forPlanning()).toEqual(small);
  expect(await store.machines.forPlanning(20e9)).toEqual(large);
  expect(await store.machines.forPlanning(140e9)).toEqual({ ...large, memory_bytes: 140e9 });
  await run('large');
  expect(await store.machines.forPlanning()).toEqual(large);
});

test('of machines with the same memory, the one that was measured last is planned for', async () => {
  await store.machines.publish(profile('older', { processor: 'older', measured_at: '2026-11-25T00:00:00.000Z' }));
  await store.machines.publish(profile('newer', { processor: 'newer', measured_at: '2026-11-27T00:00:00.000Z' }));
  await store.machines.publish(profile('old', { processor: 'old', measured_at: '2026-11-24T00:00:00.000Z' }));
  expect((await store.machines.forPlanning())?.worker).toBe('newer');
});

test('workers that come and go under other names leave one profile of each kind of machine', async () => {
  for (const worker of ['pod-1', 'pod-2', 'pod-3']) await store.machines.publish(profile(worker));
  expect(await names()).toEqual(['pod-3']);
  await store.machines.publish(profile('other', { processor: 'another processor' }));
  expect(await names()).toEqual(['other', 'pod-3']);
  // One that runs keeps its own.
  await run('pod-3');
  await store.machines.publish(profile('pod-4'));
  expect(await names()).toEqual(['other', 'pod-3', 'pod-4']);
});
