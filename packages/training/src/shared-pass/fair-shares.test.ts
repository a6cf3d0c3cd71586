import { SeededRandom } from '@lorasmith/seeded-random';
import { describe, expect, test } from 'vitest';
import { FairShares, type JobAccount, type Share } from './fair-shares.js';

const BUDGET = 1024;
const SLACK = 512;

interface Job {
  account: JobAccount;
  share: Share;
  /** Tokens of its next micro-batch. */
  next: () => number;
  had: number;
  turns: number;
}

/** Passes over jobs that ask again at once, on a clock that counts tokens. */
class Machine {
  readonly shares = new FairShares(SLACK);
  readonly jobs: Job[] = [];
  passes: { jobs: number; tokens: number }[] = [];

  add(tokens: number | (() => number), share: Partial<Share> = {}): Job {
    const whole = { key: 'k', keyWeight: 1, jobWeight: 1, ...share };
    const next = typeof tokens === 'number' ? () => tokens : tokens;
    const job = { account: this.shares.open(whole), share: whole, next, had: 0, turns: 0 };
    this.shares.wait(job.account);
    this.jobs.push(job);
    return job;
  }

  remove(job: Job): void {
    this.jobs.splice(this.jobs.indexOf(job), 1);
    this.shares.close(job.account);
  }

  /** @returns who was in the pass */
  pass(): Job[] {
    const waiting = this.jobs.map((job) => ({ account: job.account, tokens: job.next(), job }));
    const sum = (claims: readonly { tokens: number }[]) => claims.reduce((total, { tokens }) => total + tokens, 0);
    const chosen = this.shares.choose(waiting, (those, next) => sum(those) + next.tokens <= BUDGET);
    for (const { job, tokens } of chosen) {
      job.had += tokens;
      job.turns += 1;
      this.shares.wait(job.account);
    }
    this.passes.push({ jobs: chosen.length, tokens: sum(chosen) });
    return chosen.map(({ job }) => job);
  }

  run(passes: number): void {
    for (let i = 0; i < passes; i++) this.pass();
  }
}

test('jobs that fit are in every pass', () => {
  const machine = new Machine();
  for (let i = 0; i < 8; i++) machine.add(110);
  machine.run(50);
  expect(machine.passes.every(({ jobs }) => jobs === 8)).toBe(true);
});

test('jobs that do not fit take turns, and get the same tokens', () => {
  const machine = new Machine();
  for (const tokens of [128, 128, 300, 512, 700, 2000]) machine.add(tokens);
  machine.run(2000);
  const total = machine.jobs.reduce((sum, { had }) => sum + had, 0);
  for (const { had } of machine.jobs) expect(had / (total / 6)).toBeCloseTo(1, 1);
});

test('a small job does many steps between two passes of a large one', () => {
  const machine = new Machine();
  const large = machine.add(4096);
  machine.run(10);
  const small = machine.add(110);
  machine.run(60);
  expect(small.turns).toBeGreaterThan(50);
  expect(large.turns - 10).toBeGreaterThanOrEqual(1);
});

test('ten steps beside ten thousand: no more than as many tokens again and a slack come in between', () => {
  const machine = new Machine();
  const large = machine.add(900);
  machine.run(1000);
  const before = large.had;
  const small = machine.add(110);
  while (small.turns < 10) machine.pass();
  expect(large.had - before).toBeLessThanOrEqual(small.had + SLACK + 900);
});

describe('by weight', () => {
  test('keys share the machine, whatever number of jobs they have', () => {
    const machine = new Machine();
    for (let i = 0; i < 7; i++) machine.add(128, { key: 'many' });
    const one = machine.add(128, { key: 'one' });
    const double = machine.add(512, { key: 'double', keyWeight: 2 });
    machine.run(5000);
    const total = machine.jobs.reduce((sum, { had }) => sum + had, 0);
    expect(one.had / total).toBeCloseTo(1 / 4, 2);
    expect(double.had / total).toBeCloseTo(1 / 2, 2);
    for (const { had } of machine.jobs.slice(0, 7)) expect(had / total).toBeCloseTo(1 / 28, 2);
  });

  test('the jobs of a key share what the key gets: high, normal and low are 4, 1 and 1/4', () => {
    const machine = new Machine();
    const [high, normal, low] = [4, 1, 1 / 4].map((jobWeight) => machine.add(512, { jobWeight }));
    machine.run(5000);
    expect(high!.had / normal!.had).toBeCloseTo(4, 1);
    expect(normal!.had / low!.had).toBeCloseTo(4, 1);
  });
});

test('a job that was away has no claim to the time it left, and one that had the machine alone owes nothing for it', () => {
  const machine = new Machine();
  const [first, second] = [machine.add(600), machine.add(600)];
  machine.jobs.splice(1, 1); // the second one saves a checkpoint for a long time
  machine.run(1000);
  machine.jobs.push(second!);
  machine.shares.wait(second!.account);
  const before = first!.had;
  machine.run(10);
  expect(first!.had - before).toBe(5 * 600);
});

/** See FairShares: what another may get while one waits. */
function bound(own: number, other: number, largest: number): number {
  return (other / own) * (largest + SLACK) + SLACK + largest;
}

test.each([1, 2, 3, 4])('no participant waits for more than the bound while others come and go (%i)', (seed) => {
  const random = new SeededRandom(seed, 'fair shares');
  const pick = <Value>(values: readonly Value[]) => values[Math.floor(random.next() * values.length)]!;
  const machine = new Machine();
  const weights = new Map(['a', 'b', 'c'].map((key) => [key, pick([1 / 2, 1, 2])]));
  const add = () => {
    const key = pick(['a', 'b', 'c']);
    const most = pick([60, 110, 300, 900, 4000]);
    const share = { key, keyWeight: weights.get(key)!, jobWeight: pick([1 / 4, 1, 4]) };
    return machine.add(() => 1 + Math.floor(random.next() * most), share);
  };
  for (let i = 0; i < 6; i++) add();
  const largest = 4000;
  /** The tokens that each had when another last had a turn: of the keys, and of the jobs of a key. */
  const keysAt = new Map<string, Map<string, number>>();
  const jobsAt = new Map<Job, Map<Job, number>>();
  const keys = new Map<string, number>();
  const ofKey = (key: string) => machine.jobs.filter((job) => job.share.key === key);
  let tightest = 0;
  for (let i = 0; i < 3000; i++) {
    if (random.next() < 0.02 && machine.jobs.length < 12) add();
    if (random.next() < 0.02 && machine.jobs.length > 2) {
      const job = pick(machine.jobs);
      machine.remove(job);
      if (ofKey(job.share.key).length === 0) keysAt.delete(job.share.key);
    }
    for (const { share } of machine.jobs) if (!keysAt.has(share.key)) keysAt.set(share.key, new Map(keys));
    for (const job of machine.jobs) {
      if (!jobsAt.has(job)) jobsAt.set(job, new Map(ofKey(job.share.key).map((other) => [other, other.had])));
    }
    const before = new Map(machine.jobs.map((job) => [job, job.had]));
    const chosen = machine.pass();
    for (const job of chosen) {
      keys.set(job.share.key, (keys.get(job.share.key) ?? 0) + job.had - before.get(job)!);
    }
    for (const [key, at] of keysAt) {
      const weight = weights.get(key)!;
      for (const [other, had] of keys) {
        const waited = other === key ? 0 : had - (at.get(other) ?? 0);
        tightest = Math.max(tightest, waited / bound(weight, weights.get(other)!, largest));
      }
      if (chosen.some(({ share }) => share.key === key)) keysAt.set(key, new Map(keys));
    }
    for (const job of machine.jobs) {
      for (const other of ofKey(job.share.key)) {
        const waited = other === job ? 0 : other.had - (jobsAt.get(job)!.get(other) ?? before.get(other) ?? 0);
        tightest = Math.max(tightest, waited / bound(job.share.jobWeight, other.share.jobWeight, largest));
      }
      if (chosen.includes(job)) jobsAt.set(job, new Map(ofKey(job.share.key).map((other) => [other, other.had])));
    }
  }
  expect(tightest).toBeLessThanOrEqual(1);
  expect(tightest).toBeGreaterThan(0.3);
});
