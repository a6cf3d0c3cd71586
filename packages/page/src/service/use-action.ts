import { useEffect, useRef, useState } from 'preact/hooks';

export interface Action<Args extends unknown[]> {
  /** Does it, unless it is being done. Its signal is aborted when the component is left. */
  run: (...args: Args) => void;
  isBusy: boolean;
  /** Why it failed the last time. */
  error: unknown;
  clearError: () => void;
}

/** Something that the user starts, such as cancelling a job. */
export function useAction<Args extends unknown[]>(
  act: (signal: AbortSignal, ...args: Args) => Promise<void>,
): Action<Args> {
  const [state, setState] = useState<{ isBusy: boolean; error: unknown }>({ isBusy: false, error: undefined });
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);

  const run = (...args: Args) => {
    if (running.current !== null) return;
    const current = new AbortController();
    running.current = current;
    setState({ isBusy: true, error: undefined });
    act(current.signal, ...args).then(
      () => end(current, undefined),
      (error: unknown) => end(current, error),
    );
  };
  const end = (ended: AbortController, error: unknown) => {
    running.current = null;
    if (!ended.signal.aborted) setState({ isBusy: false, error });
  };
  return { run, ...state, clearError: () => setState((current) => ({ ...current, error: undefined })) };
}
