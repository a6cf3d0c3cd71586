import { appendFile, mkdtemp, readdir, readFile, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { JobEvent, NewJobEvent } from '@lorasmith/contracts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  crc32c,
  mergeRecords,
  readRecords,
  scalarsRecord,
  sessionStartRecord,
  versionRecord,
} from './event-recorder.js';
import { TrainingLog } from './training-log.js';

let folder: string;
let errors: unknown[];
beforeEach(async () => {
  folder = path.join(await mkdtemp(path.join(tmpdir(), 'training-log-')), 'tensorboard');
  errors = [];
});
afterEach(() => rm(path.dirname(folder), { recursive: true }));

const step = (number: number, loss = 1): NewJobEvent => ({
  type: 'step-finished',
  data: {
    step: number,
    total_steps: 10,
    epoch: 1,
    loss,
    accuracy: 0.25,
    learning_rate: 0.5,
    grad_norm: 2,
    tokens_per_second: 100,
    seconds_left: 1,
  },
});
const evaluation = (number: number): NewJobEvent => ({
  type: 'evaluation-finished',
  data: { step: number, loss: 3, perplexity: null, accuracy: 0.5, tokens: 7, trained_tokens: 7 },
});

async function* nothing(): AsyncGenerator<JobEvent> {}

function log(attempt: number, past: readonly NewJobEvent[] | null = null): TrainingLog {
  const pastEvents = async function* () {
    for (const event of past ?? []) {
      yield { ...event, id: '1-0', job: 'job_0', created_at: '2026-01-01T00:00:00.000Z' } as JobEvent;
    }
  };
  return new TrainingLog({
    folder,
    attempt,
    pastEvents: past === null ? nothing : pastEvents,
    onError: (error) => errors.push(error),
  });
}

const steps = (file: Buffer | null) =>
  readRecords(file ?? Buffer.alloc(0)).flatMap(({ kind, step: number }) => (kind === 'scalars' ? [number] : []));

describe('the format', () => {
  test('has the checksums of CRC-32C', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  });

  test("has the bytes of TensorBoard's own writer", () => {
    // Written with the RecordWriter and Event of the package tensorboard 2.20.0.
    const written = Buffer.concat([
      versionRecord(1_700_000_000.25),
      sessionStartRecord(1_700_000_000.25, 1),
      scalarsRecord({
        wallTime: 1_700_000_001.5,
        step: 1,
        scalars: [
          ['train/loss', 2.5],
          ['train/learning_rate', 1e-4],
        ],
      }),
      scalarsRecord({ wallTime: 1_700_000_002.5, step: 3e11, scalars: [['eval/loss', Number.POSITIVE_INFINITY]] }),
    ]);
    expect(written.toString('hex')).toBe(
      '1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9' +
        '0f000000000000006d532b090900001040fc54d94110013a020801d161c2b9' +
        '3c00000000000000c8b7a3520900006040fc54d94110012a2f0a110a0a747261696e2f6c6f737315000020400a1a0a13747261696e2f6c6561726e696e675f7261746515' +
        '17b7d138b192dee6' +
        '2400000000000000422b804d090000a040fc54d9411080f092cbdd082a120a100a096576616c2f6c6f7373150000807f2698cab8',
    );
    expect(readRecords(written).map(({ kind, step: number }) => [kind, number])).toEqual([
      ['version', 0],
      ['session-start', 1],
      ['scalars', 1],
      ['scalars', 3e11],
    ]);
  });

  test('ends where a writer died, or a byte is wrong', () => {
    const whole = Buffer.concat([versionRecord(1), scalarsRecord({ wallTime: 2, step: 1, scalars: [['a', 1]] })]);
    for (let length = 0; length < whole.length; length++) {
      expect(readRecords(whole.subarray(0, length)).length).toBe(length < versionRecord(1).length ? 0 : 1);
    }
    const damaged = Buffer.from(whole);
    damaged[damaged.length - 6]! ^= 1;
    expect(readRecords(damaged)).toHaveLength(1);
    damaged.writeBigUInt64LE(2n ** 63n, 0);
    expect(readRecords(damaged)).toEqual([]);
  });
});

describe('the log of a training', () => {
  test('has a file for each attempt, and without the steps that were trained again as one file', async () => {
    const first = log(1);
    first.add(evaluation(0));
    for (const number of [1, 2, 3, 4]) first.add(step(number));
    first.add({ type: 'checkpoint-saved', data: { step: 4 } });
    expect(steps(await first.merged())).toEqual([0, 1, 2, 3, 4]);
    // From a checkpoint at step 2.
    const second = log(2);
    second.add(step(3, 7));
    second.add(evaluation(3));
    expect(steps(await second.merged())).toEqual([0, 1, 2, 3, 3]);
    // From its start, as without a checkpoint.
    const third = log(3);
    for (const event of [evaluation(0), step(1), step(2)]) third.add(event);
    const merged = await third.merged();
    expect(steps(merged)).toEqual([0, 1, 2]);
    expect(readRecords(merged!)[0]?.kind).toBe('version');
    expect((await readdir(folder)).sort()).toEqual([1, 2, 3].map((n) => `events.out.tfevents.00000${n}.lorasmith`));
    expect(errors).toEqual([]);
  });

  test('drops steps that the same attempt trains again, after a crash of its trainer', async () => {
    const events = [evaluation(0), step(1), step(2), step(3), evaluation(3), step(4), step(3), evaluation(3), step(4)];
    const once = [0, 1, 2, 3, 3, 4];
    const attempt = log(1);
    for (const event of events) attempt.add(event);
    expect(steps(await attempt.merged())).toEqual(once);
    await rm(folder, { recursive: true });
    const elsewhere = log(2, events);
    elsewhere.add(step(5));
    expect(steps(await elsewhere.merged())).toEqual([...once, 5]);
    expect(errors).toEqual([]);
  });

  test('has the figures of sampled answers', async () => {
    const group = { reward: 0.75, reward_std: 0.5, frac_reward_zero_std: 0 };
    const lengths = { 'completions/mean_length': 9, 'completions/clipped_ratio': 0.125 };
    const sampled = log(1);
    for (const event of [step(1), evaluation(1)]) {
      sampled.add({ ...event, data: { ...event.data, group: { ...group, ...lengths } } } as NewJobEvent);
    }
    const file = (await sampled.merged())!.toString('latin1');
    for (const name of Object.keys({ ...group, ...lengths })) {
      for (const prefix of ['train/', 'eval/']) expect(file).toContain(prefix + name);
    }
  });

  test('starts with the events of the job on a host that has no log of it', async () => {
    const started: NewJobEvent = { type: 'job-started', data: { attempt: 1, worker: 'w' } };
    const past = [started, evaluation(0), step(1), step(2), step(3), started, step(2), step(3), step(4)];
    const resumed = log(3, past);
    resumed.add(step(4));
    resumed.add(step(5));
    expect(steps(await resumed.merged())).toEqual([0, 1, 2, 3, 4, 5]);
    const again = log(4, past);
    again.add(step(6));
    expect(steps(await again.merged())).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('continues after a file that was cut off', async () => {
    const first = log(1);
    for (const number of [1, 2, 3]) first.add(step(number));
    await first.merged();
    const [file] = await readdir(folder);
    const bytes = (await readFile(path.join(folder, file!))).length;
    await truncate(path.join(folder, file!), bytes - 3);
    const second = log(2);
    second.add(step(3));
    expect(steps(await second.merged())).toEqual([1, 2, 3]);
  });

  test('is null without figures, and reports what went wrong once', async () => {
    const empty = log(1);
    empty.add({ type: 'checkpoint-saved', data: { step: 1 } });
    expect(await empty.merged()).toBeNull();
    await appendFile(folder, 'a file where the folder should be');
    const failing = log(2);
    for (const number of [1, 2, 3]) failing.add(step(number));
    expect(await failing.merged()).toBeNull();
    expect(errors).toHaveLength(1);
  });

  test('keeps evenly spaced steps of very many, and the last', () => {
    const records = Array.from({ length: 1_001 }, (_, index) =>
      scalarsRecord({ wallTime: index, step: index, scalars: [['a', index]] }),
    );
    const left = steps(mergeRecords([Buffer.concat([versionRecord(0), ...records])], 100));
    expect(left.length).toBeLessThanOrEqual(101);
    expect([left[0], left.at(-1)]).toEqual([0, 1_000]);
  });
});
