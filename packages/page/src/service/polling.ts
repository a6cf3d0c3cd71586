import type { Alarm } from '@lorasmith/concurrency';

export interface PollOptions<Value> {
  read(signal: AbortSignal): Promise<Value>;
  /** Time until the next reading; null: when the alarm rings. `undefined` as value: the reading failed. */
  delayMs(value: Value | undefined): number | null;
  onValue(value: Value): void;
  onError(error: unknown): void;
  alarm: Alarm;
  signal: AbortSignal;
  /** Resolves while somebody looks. */
  whenVisible(signal: AbortSignal): Promise<void>;
}

/** Reads again and again until `signal` is aborted; one reading at a time. */
export async function poll<Value>(options: PollOptions<Value>): Promise<void> {
  const { read, delayMs, onValue, onError, alarm, signal, whenVisible } = options;
  while (!signal.aborted) {
    let value: Value | undefined;
    try {
      value = await read(signal);
      if (signal.aborted) return;
      onValue(value);
    } catch (error) {
      if (signal.aborted) return;
      onError(error);
    }
    await alarm.wait(delayMs(value), signal);
    await whenVisible(signal);
  }
}
