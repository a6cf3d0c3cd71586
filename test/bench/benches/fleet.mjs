import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { say } from '../measured.mjs';
import { model, quick, ROOT } from '../options.mjs';
import { fleet as fleetOfWorkers } from '../parts/fleet.mjs';
import { gigabytes, percent, table } from '../tables.mjs';

/** Many workers with trainers that compute nothing, beside a real Redis, api and registry. */
export async function fleet() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fleet-'));
  try {
    const sizes = quick
      ? { workers: 20, jobs: 500, hosts: 1, scale: 1_800 }
      : { workers: 200, jobs: 20_000, hosts: 2, scale: 600 };
    const result = await fleetOfWorkers({ root: ROOT, folder, model, bases: 5, keys: 10, limitSeconds: 150, ...sizes });
    const { redis, processes, shares, outcome } = result;
    say(
      `${sizes.workers} workers with trainers that compute nothing, ${sizes.jobs} jobs of 10 minutes to 2 hours, ${sizes.scale} times as fast.`,
    );
    const rate = (/** @type {number} */ one) => `${one.toFixed(1)}/s`;
    const usage = (/** @type {{ cpuShare: number, memoryBytes: number }} */ { cpuShare, memoryBytes }) =>
      `${cpuShare.toFixed(2)} cores, ${gigabytes(memoryBytes)}`;
    say(
      table(
        ['what', 'measured'],
        [
          ['jobs recorded', rate(sizes.jobs / result.fillSeconds)],
          ['claims', rate(result.claimsPerSecond)],
          ['ends', rate(result.endsPerSecond)],
          ['ends if claims and ends took no time', rate(result.idealEndsPerSecond)],
          ['from the first claim to the last end', `${result.drainSeconds.toFixed(0)} s`],
          ['jobs that were not claimed within 150 s', result.waitingAtEnd],
          ['jobs that succeeded, attempts', `${outcome.succeeded}, ${outcome.attempts}`],
          [
            'least and largest share of a key, of an equal one',
            `${Math.min(...shares).toFixed(2)}, ${Math.max(...shares).toFixed(2)}`,
          ],
          ['base models loaded', result.loads],
          ['Redis: commands', rate(redis.commandsPerSecond)],
          ['Redis: processor, peak memory', `${redis.cpuShare.toFixed(2)} cores, ${gigabytes(redis.peakBytes)}`],
          ['Redis: connections', redis.connections],
          ['Redis: most of its time', redis.top.map(({ command, share }) => `${command} ${percent(share)}`).join(', ')],
          ['api', usage(processes.api)],
          ['registry', usage(processes.registry)],
          [`all workers, in ${sizes.hosts} processes`, usage(processes.hosts)],
        ],
      ),
    );
    const ms = (/** @type {number} */ one) => `${one.toFixed(0)} ms`;
    say(
      table(
        ['request', 'sent', 'p50', 'p99', 'worst'],
        Object.entries(result.latencies).map(([name, { count: sent, p50, p99, worst }]) => [
          name,
          sent,
          ms(p50),
          ms(p99),
          ms(worst),
        ]),
      ),
    );
    return { ...sizes, ...result };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
