import type { Client } from '@lorasmith/client/core';
import { useEffect, useState } from 'preact/hooks';
import { useService } from '../../service/service.js';
import { useStore } from '../../store.js';

export interface DryRun<Report> {
  /** The answer for the current request, or of an earlier one while `isRunning`. */
  report: Report | null;
  error: unknown;
  isRunning: boolean;
}

/** Time without a change after which a request is tried. */
const PAUSE_MS = 400;

/**
 * Asks what the request would do, each time it has changed and typing pauses. An outdated question is aborted.
 * @param request - Null: asks nothing
 */
export function useDryRun<Request extends object, Report>(
  request: Request | null,
  ask: (client: Client, request: Request, signal: AbortSignal) => Promise<Report>,
): DryRun<Report> {
  const { client, connection } = useService();
  const { recoveries } = useStore(connection.state);
  const [state, setState] = useState<DryRun<Report>>({ report: null, error: undefined, isRunning: false });
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
      ask(client, request, signal).then(
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
