import type { Client } from '@lorasmith/client/core';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { useVisible } from '../service/polling.js';
import { nullIf, useService } from '../service/service.js';
import { type Polled, usePolled } from '../service/use-polled.js';
import { useStore } from '../store.js';
import { JobHistory } from './job-history.js';

export interface FollowedHistory {
  history: JobHistory;
  /** Changes with `history`, which is always the same object. */
  version: number;
  error: unknown;
}

/**
 * The events of a job, from the first to the last that comes. A lost connection is resumed after the last event.
 * @param resumes - How often the job was resumed: it has further events then. Undefined: it is not read yet
 */
export function useJobHistory(jobId: string, resumes: number | undefined): FollowedHistory {
  const { client, connection } = useService();
  const { recoveries } = useStore(connection.state);
  // A browser has six connections to a service for all of its tabs, so a hidden one keeps none.
  const isVisible = useVisible();
  const history = useMemo(() => new JobHistory(), [client, jobId]);
  const [version, setVersion] = useState(0);
  const [error, setError] = useState<unknown>();

  useEffect(() => {
    if (!isVisible || resumes === undefined) return;
    const ended = new AbortController();
    const refresher = createRefresher(() => setVersion((current) => current + 1));
    setError(undefined);
    const follow = async () => {
      const options = { after: history.lastEventId, signal: ended.signal, maxFailures: Number.POSITIVE_INFINITY };
      for await (const event of client.events(jobId, options)) {
        history.add(event);
        refresher.request();
      }
    };
    follow().catch((reason: unknown) => {
      if (!ended.signal.aborted) setError(reason);
    });
    return () => {
      ended.abort();
      refresher.end();
    };
  }, [history, resumes, recoveries, isVisible]);
  return { history, version, error };
}

const POLL_MS = 2_000;
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
          : Math.max(POLL_MS, (ids.length * 60_000) / MAX_CALLS_PER_MINUTE),
    },
  );
}

function recentOf(client: Client): RecentHistories {
  const known = recent.get(client) ?? new RecentHistories(client);
  recent.set(client, known);
  return known;
}

/** The most events that one request reads. */
const PAGE = 1000;
/** Histories that are kept: more than a list of jobs shows, and than a sweep has jobs. */
const MAX_KEPT = 100;

/** The histories of the jobs that were shown last. A job that is shown again needs only its later events. */
class RecentHistories {
  readonly #client: Client;
  readonly #histories = new Map<string, JobHistory>();

  constructor(client: Client) {
    this.#client = client;
  }

  /** Reads the events of a job that its history does not have yet. */
  async read(id: string, signal: AbortSignal): Promise<JobHistory> {
    const history = this.#use(id);
    for (;;) {
      const after = history.lastEventId;
      const { data, has_more: hasMore } = await this.#client.listEvents(id, { after, limit: PAGE }, { signal });
      // Another call has added these events meanwhile.
      if (history.lastEventId !== after) continue;
      for (const event of data) history.add(event);
      if (!hasMore) return history;
    }
  }

  /** The history of a job, which becomes the last one to be dropped. */
  #use(id: string): JobHistory {
    const history = this.#histories.get(id) ?? new JobHistory();
    this.#histories.delete(id);
    this.#histories.set(id, history);
    const [oldest] = this.#histories.keys();
    if (this.#histories.size > MAX_KEPT) this.#histories.delete(oldest!);
    return history;
  }
}

/** Often enough for a curve that moves, and seldom enough for thousands of events at once. */
const REFRESH_MS = 250;

export interface Refresher {
  /** Something has changed: refreshes soon, once for all requests until then. */
  request(): void;
  end(): void;
}

function createRefresher(refresh: () => void): Refresher {
  let timer: ReturnType<typeof setTimeout> | null = null;
  return {
    request() {
      timer ??= setTimeout(() => {
        timer = null;
        refresh();
      }, REFRESH_MS);
    },
    end() {
      if (timer !== null) clearTimeout(timer);
      timer = null;
    },
  };
}
