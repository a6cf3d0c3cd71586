import type { Client } from '@lorasmith/client/core';
import { useMemo } from 'preact/hooks';
import { useService } from '../service/service.js';
import { type Polled, usePolled } from '../service/use-polled.js';
import { JobHistory } from './job-history.js';

/** The most that a page of events has. */
const PAGE = 1000;
const INTERVAL_MS = 2_000;

/** The events of several jobs by id. They are read in pages, because a browser has few connections for streams. */
export function useJobHistories(ids: readonly string[]): Polled<ReadonlyMap<string, JobHistory>> {
  const { client } = useService();
  const histories = useMemo(() => new Map<string, JobHistory>(), [client]);
  return usePolled(
    async (signal) => {
      await Promise.all(ids.map((id) => readNews(client, id, historyOf(histories, id), signal)));
      return new Map(ids.map((id) => [id, historyOf(histories, id)]));
    },
    [client, ids.join()],
    { everyMs: (read) => ([...read.values()].every(({ hasEnded }) => hasEnded) ? null : INTERVAL_MS) },
  );
}

function historyOf(histories: Map<string, JobHistory>, id: string): JobHistory {
  const known = histories.get(id) ?? new JobHistory();
  histories.set(id, known);
  return known;
}

async function readNews(client: Client, id: string, history: JobHistory, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { data, has_more } = await client.listEvents(id, { after: history.lastEventId, limit: PAGE }, { signal });
    for (const event of data) history.add(event);
    if (!has_more) return;
  }
}
