import { useEffect, useMemo, useState } from 'preact/hooks';
import { useService } from '../service/service.js';
import { useVisible } from '../service/visibility.js';
import { useStore } from '../store.js';
import { JobHistory } from './job-history.js';
import { createRefresher } from './refresher.js';

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
