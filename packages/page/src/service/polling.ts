import type { Alarm } from '@lorasmith/concurrency';
import { useEffect, useState } from 'preact/hooks';

export interface PollOptions<Value> {
  read(signal: AbortSignal): Promise<Value>;
  /** Time until the next reading; null: when the alarm rings. */
  delayMs(value: Value): number | null;
  /** Time until the next reading after so many failed ones in a row. */
  afterErrorMs(failures: number): number;
  onValue(value: Value): void;
  onError(error: unknown): void;
  alarm: Alarm;
  signal: AbortSignal;
  /** Resolves while somebody looks. */
  whenVisible(signal: AbortSignal): Promise<void>;
}

/** Reads again and again until `signal` is aborted; one reading at a time. */
export async function poll<Value>(options: PollOptions<Value>): Promise<void> {
  const { read, delayMs, afterErrorMs, onValue, onError, alarm, signal, whenVisible } = options;
  let failures = 0;
  while (!signal.aborted) {
    let waitMs: number | null;
    try {
      const value = await read(signal);
      if (signal.aborted) return;
      failures = 0;
      onValue(value);
      waitMs = delayMs(value);
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      onError(error);
      waitMs = afterErrorMs(failures);
    }
    await alarm.wait(waitMs, signal);
    await whenVisible(signal);
  }
}

/** Resolves while the tab is visible, or when `signal` is aborted. */
export async function whenVisible(signal: AbortSignal): Promise<void> {
  if (!document.hidden || signal.aborted) return;
  await new Promise<void>((resolve) => {
    const end = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', end);
      signal.removeEventListener('abort', end);
      resolve();
    };
    document.addEventListener('visibilitychange', end);
    signal.addEventListener('abort', end);
  });
}

/** True while the tab is visible. */
export function useVisible(): boolean {
  const [isVisible, setVisible] = useState(!document.hidden);
  useEffect(() => {
    const update = () => setVisible(!document.hidden);
    document.addEventListener('visibilitychange', update);
    return () => document.removeEventListener('visibilitychange', update);
  }, []);
  return isVisible;
}
