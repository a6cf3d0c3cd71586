/** Waits that end at a time, or sooner by a call. */
export interface Alarm {
  /** Ends the current wait. Without one, ends the next wait at once. */
  ring(): void;
  /** Resolves after `ms`, when it rings, or when `signal` is aborted. Null: only then. */
  wait(ms: number | null, signal: AbortSignal): Promise<void>;
}

export function createAlarm(): Alarm {
  let isRung = false;
  let end: (() => void) | null = null;
  return {
    ring() {
      if (end === null) isRung = true;
      else end();
    },
    async wait(ms, signal) {
      if (isRung || signal.aborted) {
        isRung = false;
        return;
      }
      await new Promise<void>((resolve) => {
        const timer = ms === null ? undefined : setTimeout(() => end?.(), ms);
        end = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', end!);
          end = null;
          resolve();
        };
        signal.addEventListener('abort', end);
      });
    },
  };
}

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
