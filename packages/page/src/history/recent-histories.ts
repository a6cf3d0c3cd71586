import type { Client } from '@lorasmith/client/core';
import { JobHistory } from './job-history.js';

/** The most events that one request reads. */
const PAGE = 1000;
/** Histories that are kept: more than a list of jobs shows, and than a sweep has jobs. */
const MAX_KEPT = 100;

/** The histories of the jobs that were shown last. A job that is shown again needs only its later events. */
export class RecentHistories {
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
