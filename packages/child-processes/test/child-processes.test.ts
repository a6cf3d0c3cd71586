import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test, vi } from 'vitest';
import { askChild, type ChildProgram, explainExit, readChild, startChild } from '../src/index.js';

// Children are real processes with the compiled package: run `npx tsc -b` before.

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));
const program = (behaviour: string): ChildProgram => ({
  file: fixture('child'),
  arguments: [behaviour],
  environment: { PATH: process.env.PATH },
});

const ask = (behaviour: string, options: { timeoutMs?: number; signal?: AbortSignal } = {}, progress: number[] = []) =>
  askChild<number, number>(
    program(behaviour),
    { number: 21 },
    {
      timeoutMs: 60_000,
      work: 'Doubling',
      crashed: (how, { lines }) => new Error(`it ${how}: ${lines.join('|')}`),
      onProgress: (value) => progress.push(value),
      ...options,
    },
  );

async function drained(bytes: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of bytes);
}

const isAlive = async (pid: number) => {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return status !== null && !/^\d+ \(.*\) [ZX]/.test(status);
};

test('a child answers, and reports how far it is', async () => {
  const progress: number[] = [];
  expect(await ask('double', {}, progress)).toBe(42);
  expect(progress).toEqual([0.5]);
});

test('an error of a child keeps its code; the stack of an unknown one is for the log alone', async () => {
  await expect(ask('refuse')).rejects.toMatchObject({ code: 'invalid_adapter', param: 'lora_B' });
  await expect(ask('break')).rejects.toMatchObject({
    code: 'internal_error',
    message: 'The work failed; the log of the service says why.',
    cause: { message: expect.stringContaining('a fault of ours') },
  });
});

test('a message that was sent right before the exit is received', async () => {
  for (let i = 0; i < 10; i++) expect(await ask('last-word')).toBe('said');
});

test.each([
  ['exit-3', 'ended with exit code 3: something broke'],
  ['be-killed', 'was killed by SIGKILL'],
  ['nothing', 'ended with exit code 0'],
])('a child that ends without an answer (%s) is explained', async (behaviour, how) => {
  await expect(ask(behaviour)).rejects.toThrow(how);
});

test('a line without an end is cut', async () => {
  await expect(ask('write-without-end')).rejects.toThrow(/^it ended with exit code 4: x{2000}$/);
});

test('a child that takes too long is killed', async () => {
  await expect(ask('block', { timeoutMs: 1_500 })).rejects.toMatchObject({
    code: 'timeout',
    message: 'Doubling took longer than 1.5 s and was stopped.',
  });
});

test('an aborted request kills its child and throws the reason', async () => {
  const stopping = new AbortController();
  setTimeout(() => stopping.abort(new Error('enough')), 500);
  await expect(ask('wait', { signal: stopping.signal })).rejects.toThrow('enough');
  await expect(ask('wait', { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
});

test.each([
  ['exit-3', 'crash'],
  ['be-killed', 'out-of-memory'],
  ['lose-gpu', 'gpu-lost'],
])('the end of a child (%s) has a cause: %s', async (behaviour, cause) => {
  const child = startChild({ program: program(behaviour), onMessage: () => {} });
  child.send({ number: 1 });
  expect(explainExit(await child.ended).cause).toBe(cause);
  expect(child.usable).toBe(false);
});

/** The bytes of a child, as text. */
const read = (behaviour: string, options: { timeoutMs?: number; signal?: AbortSignal } = {}) =>
  readChild(
    program(behaviour),
    { number: 50 },
    { timeoutMs: 60_000, work: 'Pouring', crashed: (how) => new Error(`it ${how}`), ...options },
  );

test('the bytes of a child arrive all, before its answer', async () => {
  const parts: Buffer[] = [];
  for await (const part of read('pour')) parts.push(part);
  const expected = Array.from({ length: 50 }, (_, i) => `${i}\n`.repeat(10_000)).join('');
  expect(Buffer.concat(parts).toString() === expected).toBe(true);
});

test.each([
  ['pour-and-refuse', 'It ends too early.'],
  ['exit-3', 'it ended with exit code 3'],
  ['be-killed', 'it was killed by SIGKILL'],
])('the bytes of a child that fails (%s) end with its error', async (behaviour, message) => {
  await expect(drained(read(behaviour))).rejects.toThrow(message);
});

test('a child that writes for ever ends with its reader, its signal or its time', async () => {
  const pidOf = async (bytes: AsyncGenerator<Buffer>) =>
    parseInt(((await bytes.next()).value as Buffer).toString(), 10);
  const left = read('pour-for-ever');
  const pid = await pidOf(left);
  expect(await isAlive(pid)).toBe(true);
  await left.return(undefined);
  expect(await isAlive(pid)).toBe(false);

  const stopping = new AbortController();
  const stopped = read('pour-for-ever', { signal: stopping.signal });
  const other = await pidOf(stopped);
  stopping.abort(new Error('enough'));
  await expect(drained(stopped)).rejects.toThrow('enough');
  expect(await isAlive(other)).toBe(false);

  await expect(drained(read('pour-for-ever', { timeoutMs: 1_500 }))).rejects.toMatchObject({ code: 'timeout' });
});

test('heartbeats keep a child; silence kills it', async () => {
  const heard: string[] = [];
  const start = (behaviour: string) =>
    startChild({ program: program(behaviour), onMessage: ({ type }) => void heard.push(type) });
  const deaf = start('deaf');
  // It still loads.
  deaf.watchSilence(1);
  await expect.poll(() => heard).toEqual(['ready']);
  deaf.watchSilence(300);
  expect(explainExit(await deaf.ended).cause).toBe('silence');

  const alive = start('heartbeat');
  await expect.poll(() => heard).toEqual(['ready', 'ready']);
  // The clock of the silence stands still between heartbeats, so that a busy machine does not cause it.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const { calls: restarts } = vi.spyOn(globalThis, 'setInterval').mock;
  alive.watchSilence(10_000);
  for (let heartbeat = 1; heartbeat <= 3; heartbeat++) {
    vi.advanceTimersByTime(9_000);
    const before = restarts.length;
    await expect.poll(() => restarts.length).toBeGreaterThan(before);
  }
  expect(alive.usable).toBe(true);
  await alive.end(10_000);
  expect(await alive.ended).toMatchObject({ code: 0, signal: null, killedFor: null });
});

test('a child that speaks is not killed because its parent was blocked', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-child-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const answered = path.join(folder, 'answered');
  let heard = 0;
  const child = startChild({
    program: program('heartbeat'),
    onMessage() {
      heard++;
      child.watchSilence(null);
    },
  });
  await expect.poll(() => heard).toBe(1);
  child.watchSilence(1_000);
  child.send({ answered });
  const untilMs = performance.now() + 1_100;
  while (!existsSync(answered) || performance.now() < untilMs) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
  await expect.poll(() => heard).toBe(2);
  expect(child.usable).toBe(true);
  await child.end(10_000);
  expect(await child.ended).toMatchObject({ code: 0, killedFor: null });
});

test('a child that is blocked ends when its parent is killed', async () => {
  const parent = spawn(process.execPath, [fixture('parent')], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [pid] = (await once(parent.stdout, 'data')).map(Number);
  expect(await isAlive(pid ?? 0)).toBe(true);
  parent.kill('SIGKILL');
  await expect.poll(() => isAlive(pid ?? 0)).toBe(false);
});
