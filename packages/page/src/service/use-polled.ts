import { Alarm } from '@lorasmith/concurrency';
import { type Inputs, useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { useStore } from '../store.js';
import { poll, whenVisible } from './polling.js';
import { useService } from './service.js';

export interface Polled<Value> {
  /** The last value; it stays while a later reading fails. */
  value: Value | undefined;
  /** The error of the last reading. */
  error: unknown;
  /** Reads again now. */
  refresh: () => void;
}

export interface PollInterval<Value> {
  /** Time between two readings; null: reads once, and after `refresh`. A function decides by the last value. */
  everyMs: number | null | ((value: Value) => number | null);
}

/** A failed reading is repeated after this time, and after each further failure in a row after twice the time, up to the longest. */
const AFTER_ERROR_MS = 5_000;
const LONGEST_AFTER_ERROR_MS = 60_000;

/**
 * Reads a value from the service, and again at an interval: not while the tab is hidden, and at once when a lost connection
 * is back. What belongs to other `inputs` is dropped.
 */
export function usePolled<Value>(
  read: (signal: AbortSignal) => Promise<Value>,
  inputs: Inputs,
  { everyMs }: PollInterval<Value>,
): Polled<Value> {
  const { connection } = useService();
  const { recoveries } = useStore(connection.state);
  const [state, setState] = useState<Omit<Polled<Value>, 'refresh'>>({ value: undefined, error: undefined });
  const alarm = useRef<Alarm | null>(null);

  useEffect(() => {
    setState({ value: undefined, error: undefined });
    const ended = new AbortController();
    const current = new Alarm();
    alarm.current = current;
    void poll({
      read,
      delayMs: (value) => (typeof everyMs === 'function' ? everyMs(value) : everyMs),
      afterErrorMs: (failures) => Math.min(AFTER_ERROR_MS * 2 ** (failures - 1), LONGEST_AFTER_ERROR_MS),
      onValue: (value) => setState({ value, error: undefined }),
      onError: (error) => setState(({ value }) => ({ value, error })),
      alarm: current,
      signal: ended.signal,
      whenVisible,
    });
    return () => ended.abort();
  }, inputs);

  const refresh = useCallback(() => alarm.current?.ring(), []);
  const seenRecoveries = useRef(recoveries);
  useEffect(() => {
    if (recoveries !== seenRecoveries.current) refresh();
    seenRecoveries.current = recoveries;
  }, [recoveries]);
  return { ...state, refresh };
}
