import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { aJobSpec } from './a-job-spec.js';
import { queue, store, useJobStore } from './real-job-store.js';

useJobStore('prefer');

const FAR = 600_000;
const send = async (baseModel: string) =>
  (await store.createJob(aJobSpec({ base_model: baseModel }), { requestHash: 'h' })).job.id;
const order = async () => (await queue.getWaiting()).map(({ id }) => id);

test('the first job on the model becomes the next job, and the others keep their order', async () => {
  const [first, second, third, fourth] = [await send('one'), await send('two'), await send('one'), await send('two')];
  expect(await store.preferBaseModel({ baseModel: 'two', maxPassedOverMs: FAR })).toBe(second);
  expect(await order()).toEqual([second, first, third, fourth]);
  // It is already the next job.
  expect(await store.preferBaseModel({ baseModel: 'two', maxPassedOverMs: FAR })).toBeNull();
  expect(await store.preferBaseModel({ baseModel: 'three', maxPassedOverMs: FAR })).toBeNull();
  expect(await order()).toEqual([second, first, third, fourth]);
});

test('a job that has waited too long is not passed over', async () => {
  const first = await send('one');
  const second = await send('two');
  await sleep(30);
  expect(await store.preferBaseModel({ baseModel: 'two', maxPassedOverMs: 20 })).toBeNull();
  expect(await order()).toEqual([first, second]);
  // However often other jobs are preferred, a job behind one that cannot be passed over stays behind it.
  const third = await send('two');
  for (let round = 0; round < 3; round++) await store.preferBaseModel({ baseModel: 'two', maxPassedOverMs: 20 });
  expect(await order()).toEqual([first, second, third]);
});

test('concurrent workers neither lose nor duplicate a job', async () => {
  const jobs: string[] = [];
  for (let i = 0; i < 6; i++) jobs.push(await send(i % 2 === 0 ? 'one' : 'two'));
  const models = ['one', 'two', 'two', 'one', 'two'];
  await Promise.all(models.map((baseModel) => store.preferBaseModel({ baseModel, maxPassedOverMs: FAR })));
  expect((await order()).sort()).toEqual([...jobs].sort());
  expect((await store.reconcile()).requeued).toEqual([]);
});

test('a job that is cancelled or resumed meanwhile is in its correct position', async () => {
  const [first, second] = [await send('one'), await send('two')];
  await store.requestCancel(second);
  expect(await store.preferBaseModel({ baseModel: 'two', maxPassedOverMs: FAR })).toBeNull();
  await store.resumeJob(second);
  expect(await store.preferBaseModel({ baseModel: 'two', maxPassedOverMs: FAR })).toBe(second);
  expect(await order()).toEqual([`${second}.1`, first]);
});
