import type { Client } from '@lorasmith/client/core';
import { nullIf } from '../service/null-if.js';
import { useService } from '../service/service.js';
import { type Polled, usePolled } from '../service/use-polled.js';
import type { JobHistory } from './job-history.js';
import { RecentHistories } from './recent-histories.js';

const INTERVAL_MS = 2_000;
/** Half of what a key may call by default: a sweep has up to 64 jobs, and each takes a call. */
const MAX_CALLS_PER_MINUTE = 300;
/** The histories by client, because another key may see other jobs. */
const recent = new WeakMap<Client, RecentHistories>();

/** The events of several jobs by id, without those that were deleted. They are read in pages, because a browser has few connections for streams. */
export function useJobHistories(ids: readonly string[]): Polled<ReadonlyMap<string, JobHistory>> {
  const { client } = useService();
  return usePolled(
    async (signal) => {
      const histories = recentOf(client);
      const read = await Promise.all(ids.map((id) => histories.read(id, signal).catch(nullIf('job_not_found'))));
      return new Map(read.flatMap((history, index) => (history === null ? [] : [[ids[index]!, history] as const])));
    },
    [client, ids.join()],
    {
      everyMs: (read) =>
        [...read.values()].every(({ hasEnded }) => hasEnded)
          ? null
          : Math.max(INTERVAL_MS, (ids.length * 60_000) / MAX_CALLS_PER_MINUTE),
    },
  );
}

function recentOf(client: Client): RecentHistories {
  const known = recent.get(client) ?? new RecentHistories(client);
  recent.set(client, known);
  return known;
}
