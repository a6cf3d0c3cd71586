import type { JobRequest, Report } from '@lorasmith/contracts';
import { useEffect, useState } from 'preact/hooks';
import { useService } from '../../service/service.js';
import { useStore } from '../../store.js';

export interface DryRun {
  /** The report of the current request, or of an earlier one while `isRunning`. */
  report: Report | null;
  error: unknown;
  isRunning: boolean;
}

/** Time without a change after which a request is tried. */
const PAUSE_MS = 400;

/** Asks what the request would do, each time it has changed and typing pauses. An outdated question is aborted. Null: asks nothing. */
export function useDryRun(request: JobRequest | null): DryRun {
  const { client, connection } = useService();
  const { recoveries } = useStore(connection.state);
  const [state, setState] = useState<DryRun>({ report: null, error: undefined, isRunning: false });
  const text = request === null ? null : JSON.stringify(request);
  useEffect(() => {
    if (request === null) {
      setState({ report: null, error: undefined, isRunning: false });
      return;
    }
    const outdated = new AbortController();
    const { signal } = outdated;
    setState((last) => ({ ...last, isRunning: true }));
    const timer = setTimeout(() => {
      client.dryRun(request, { signal }).then(
        (report) => !signal.aborted && setState({ report, error: undefined, isRunning: false }),
        (error: unknown) => !signal.aborted && setState({ report: null, error, isRunning: false }),
      );
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      outdated.abort();
    };
  }, [client, text, recoveries]);
  return state;
}
