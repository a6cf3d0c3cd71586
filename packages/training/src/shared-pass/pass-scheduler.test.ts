import { setTimeout } from 'node:timers/promises';
import { ALL_LAYERS, type Decoder, LoraAdapter, tokenBatchOf } from '@lorasmith/models';
import { chooseKernels, dispose, liveTensorCount, toFloat32Array } from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TINY_ARCHITECTURE, tinyDecoder } from '../../../models/test/tiny-decoder.js';
import { type Batch, runnable } from '../batches.js';
import { NextToken } from '../objectives/next-token/next-token.js';
import { takeBatchLoss } from '../objectives/objective.js';
import { GenerationTime, type TextGenerator } from './engine-time.js';
import type { MicroBatch } from './joined-pass.js';
import { type FinishedPass, type Participant, PassScheduler } from './pass-scheduler.js';

const kernels = chooseKernels('raw');

/** More than the work beside a pass needs on a busy machine. Nothing waits for its end. */
const A_MINUTE_MS = 60_000;

describe('turns', () => {
  test('everybody who asks gets one before anybody gets the next', async () => {
    const scheduler = new PassScheduler();
    const order: string[] = [];
    const job = async (name: string, tokens: number, turns: number) => {
      const passes = scheduler.join();
      for (let i = 0; i < turns; i++) await passes.inEngineCall(tokens, () => order.push(name));
      passes.leave();
    };
    await Promise.all([job('large', 300, 2), job('small', 100, 5), job('other', 100, 5)]);
    expect(order.join(' ')).toBe('large small other small other small other large small other small other');
  });

  test('one that throws is over for its own job alone', async () => {
    const scheduler = new PassScheduler();
    const [bad, good] = [scheduler.join(), scheduler.join()];
    const failed = bad.inEngineCall(1, () => {
      throw new Error('mine');
    });
    const done = good.inEngineCall(1, () => 'yours');
    await expect(failed).rejects.toThrow('mine');
    expect(await done).toBe('yours');
  });

  test('a job that is stopped while it waits waits no longer', async () => {
    const scheduler = new PassScheduler();
    const stopping = new AbortController();
    const [stopped, other] = [scheduler.join({ signal: stopping.signal }), scheduler.join()];
    const all = other.inEngineCall(1, () => stopping.abort('cancel'));
    const ran: string[] = [];
    const waiting = stopped.inEngineCall(1, () => ran.push('stopped'));
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
    await all;
    await expect(stopped.inEngineCall(1, () => ran.push('again'))).rejects.toMatchObject({ code: 'cancelled' });
    expect(ran).toEqual([]);
  });

  test('work beside them gets on meanwhile, and waits for its own turns as anybody', async () => {
    const scheduler = new PassScheduler();
    const [busy, other] = [scheduler.join(), scheduler.join()];
    let turns = 0;
    const beside = other.concurrently(async () => {
      // As many file operations as a checkpoint has.
      for (let i = 0; i < 30; i++) await setTimeout(1);
      return await other.inEngineCall(1, () => turns);
    }, A_MINUTE_MS);
    let needed: number | null = null;
    void beside.then((count) => {
      needed = count;
    });
    while (needed === null) await busy.inEngineCall(1, () => turns++);
    expect(await beside).toBeLessThan(10);
  });

  test('nobody else gets a turn between a work beside them and the one that follows it', async () => {
    const scheduler = new PassScheduler();
    const [busy, other] = [scheduler.join(), scheduler.join()];
    let turns = 0;
    let between: number | null = null;
    const both = (async () => {
      const before = await scheduler.concurrently(() => setTimeout(1).then(() => turns), A_MINUTE_MS);
      between = await other.concurrently(() => setTimeout(1).then(() => turns - before), A_MINUTE_MS);
    })();
    while (between === null) await busy.inEngineCall(1, () => turns++);
    await both;
    expect(between).toBe(0);
  });
});

describe('passes', () => {
  let decoder: Decoder;
  let objective: NextToken;
  let adapters: LoraAdapter[];
  beforeEach(() => {
    decoder = tinyDecoder(kernels, 'float32');
    objective = new NextToken(decoder);
    const targets = decoder.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 2, scale: 1 })));
    adapters = [0, 1, 2].map((seed) => new LoraAdapter(decoder.groups, { targets, dropout: 0, seed }));
  });
  afterEach(() => {
    for (const adapter of adapters) adapter.dispose();
    decoder.dispose();
  });

  function batchOf(length: number): Batch {
    const ids = Int32Array.from({ length }, (_, i) => (7 * i + length) % TINY_ARCHITECTURE.vocabSize);
    const batch = tokenBatchOf([{ ids, trained: new Uint8Array(length).fill(1) }]);
    return runnable(objective, batch);
  }
  const microBatch = (job: number, batch: Batch, recomputedLayers = 0): MicroBatch => {
    return { batch, adapter: adapters[job]!, dropoutSeed: [0, 0], recomputedLayers };
  };

  /** @returns the sizes of the passes in which these go that wait at the same time */
  async function passesOf(microBatches: MicroBatch[]): Promise<number[]> {
    const passes: FinishedPass[] = [];
    const scheduler = new PassScheduler({ passTokens: 100, onPass: (pass) => passes.push(pass) });
    const results = await Promise.all(microBatches.map((one) => scheduler.join().lossAndGradients(one)));
    for (const { losses, correct, gradient } of results) dispose([losses, correct, gradient]);
    return passes.map(({ jobs }) => jobs);
  }

  test('are shared up to their tokens, by those with the same settings', async () => {
    expect(await passesOf([0, 1, 2].map((job) => microBatch(job, batchOf(30))))).toEqual([3]);
    expect(await passesOf([0, 1, 2].map((job) => microBatch(job, batchOf(40))))).toEqual([2, 1]);
    expect(await passesOf([0, 1, 2].map((job) => microBatch(job, batchOf(30), job === 1 ? 1 : 0)))).toEqual([2, 1]);
    expect(await passesOf([microBatch(0, batchOf(120)), microBatch(1, batchOf(10))])).toEqual([1, 1]);
  });

  test('a job alone computes as many layers again as was planned, beside others all of them or none', async () => {
    const scheduler = new PassScheduler();
    const layers: unknown[] = [];
    const run = async (passes: Participant, recomputedLayers: number) => {
      const batch = batchOf(12);
      const { lossAndGradients } = batch;
      batch.lossAndGradients = (options) => {
        layers.push(options.recomputedLayers);
        return lossAndGradients.call(batch, options);
      };
      const { losses, correct, gradient } = await passes.lossAndGradients(microBatch(0, batch, recomputedLayers));
      dispose([losses, correct, gradient]);
    };
    const passes = scheduler.join();
    await run(passes, 1);
    const other = scheduler.join();
    await run(passes, 1);
    await run(passes, 0);
    other.leave();
    await run(passes, 1);
    expect(layers).toEqual([1, ALL_LAYERS, 0, 1]);
  });

  test('memory that runs out has all layers computed again, from then on', async () => {
    const layers: unknown[] = [];
    const runsOut = (batch: Batch): Batch => {
      const { lossAndGradients } = batch;
      batch.lossAndGradients = (options) => {
        layers.push(options.recomputedLayers);
        if (options.recomputedLayers !== ALL_LAYERS) throw new Error('OOM when allocating tensor');
        return lossAndGradients.call(batch, options);
      };
      return batch;
    };
    const passes = new PassScheduler().join();
    for (let step = 0; step < 2; step++) {
      const { losses, correct, gradient } = await passes.lossAndGradients(microBatch(0, runsOut(batchOf(12)), 1));
      dispose([losses, correct, gradient]);
    }
    expect(layers).toEqual([1, ALL_LAYERS, ALL_LAYERS]);
    await expect(passes.lossAndGradients(microBatch(0, runsOut(batchOf(12)), 0))).rejects.toThrow('OOM');
  });

  test('one that fails is repeated for each job alone, and only who fails again has failed', async () => {
    const gradientOf = async (passes: Participant, one: MicroBatch) => {
      const { losses, correct, gradient } = await passes.lossAndGradients(one);
      const numbers = toFloat32Array(gradient);
      dispose([losses, correct, gradient]);
      return numbers;
    };
    const [first, culprit, second] = [batchOf(12), batchOf(20), batchOf(9)] as const;
    const expected = [
      await gradientOf(new PassScheduler().join(), microBatch(0, first)),
      await gradientOf(new PassScheduler().join(), microBatch(2, second)),
    ];
    const live = liveTensorCount();
    first.join = () => {
      // The backward pass had begun.
      takeBatchLoss(second.lossAndGradients({ adapters: [{ adapter: adapters[2]! }] }));
      throw new Error('OOM when allocating tensor');
    };
    culprit.lossAndGradients = () => {
      throw new Error('OOM when allocating tensor');
    };
    const passes: FinishedPass[] = [];
    const scheduler = new PassScheduler({ onPass: (pass) => passes.push(pass) });
    const all = [microBatch(0, first), microBatch(1, culprit), microBatch(2, second)];
    const results = await Promise.allSettled(all.map((one) => gradientOf(scheduler.join(), one)));
    expect(results).toEqual([
      { status: 'fulfilled', value: expected[0] },
      { status: 'rejected', reason: new Error('OOM when allocating tensor') },
      { status: 'fulfilled', value: expected[1] },
    ]);
    expect(liveTensorCount()).toBe(live);
    // The next ones are smaller.
    const both = [microBatch(0, batchOf(12)), microBatch(2, second)];
    await Promise.all(both.map((one) => gradientOf(scheduler.join(), one)));
    expect(passes.map(({ jobs }) => jobs)).toEqual([3, 1, 1]);
  });
});

describe('generation', () => {
  /** Steps of 50 ms on a clock that is driven, while `work` lasts. */
  function generating(share: number, passMs: number) {
    let nowMs = 0;
    const time = new GenerationTime(share, () => nowMs);
    const spent = { generation: 0, training: 0, longestWait: 0 };
    let hasWork = true;
    let waited = 0;
    const generator: TextGenerator = {
      hasWork: () => hasWork,
      step: () => {
        nowMs += 50;
        spent.generation += 50;
        waited = 0;
      },
      fail: () => {},
    };
    const until = (endMs: number, work: boolean, trainingWaits = true) => {
      hasWork = work;
      while (nowMs < endMs) {
        if (time.isDue(generator, trainingWaits)) time.generate(generator, trainingWaits);
        else {
          time.train(generator, () => {
            nowMs += passMs;
          });
          spent.training += passMs;
          waited += passMs;
          spent.longestWait = Math.max(spent.longestWait, waited);
        }
      }
    };
    const setWork = (work: boolean) => {
      hasWork = work;
    };
    return { until, spent, now: () => nowMs, isDue: () => time.isDue(generator, true), setWork };
  }

  test.each([0.1, 0.25, 0.5])('gets a share of %f while both have work', (share) => {
    const { until, spent } = generating(share, 700);
    until(200_000, true);
    expect(spent.generation / (spent.generation + spent.training)).toBeCloseTo(share, 2);
  });

  test('begins at once, but saves nothing up, and what it had beyond its share it still owes', () => {
    const { until, spent, now, isDue, setWork } = generating(0.25, 700);
    until(100_000, false);
    expect(spent.generation).toBe(0);
    setWork(true);
    expect(isDue()).toBe(true);
    until(now() + 50, true);
    setWork(false);
    setWork(true);
    expect(isDue()).toBe(false);
  });

  test('has all of the time while nothing trains', () => {
    const { until, spent } = generating(0.25, 700);
    until(10_000, true, false);
    expect(spent.training).toBe(0);
  });

  test('that breaks ends its conversations, and no training', async () => {
    const scheduler = new PassScheduler();
    const failed: unknown[] = [];
    scheduler.generator = {
      hasWork: () => failed.length === 0,
      step: () => {
        throw new Error('broken');
      },
      fail: (error) => failed.push(error),
    };
    scheduler.wake();
    expect(await scheduler.join().inEngineCall(1, () => 'done')).toBe('done');
    expect(failed).toEqual([new Error('broken')]);
  });
});
