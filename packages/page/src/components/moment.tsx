import { createStore, useStore } from '../store.js';

/**
 * A time of the service, in the time zone and form of the reader: how long ago if it is near, and the exact time as its title.
 * @param isExact shows the exact time, as in a log
 */
export function Moment({ at, isExact = false }: { at: string; isExact?: boolean }) {
  const now = useNow();
  const date = new Date(at);
  const relative = isExact ? null : relativeText((now - date.getTime()) / 1000);
  return (
    <time dateTime={at} title={date.toLocaleString()}>
      {relative ?? exactText(date, now)}
    </time>
  );
}

function exactText(date: Date, now: number): string {
  return date.toDateString() === new Date(now).toDateString()
    ? date.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' })
    : date.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });
}

const [MINUTE, HOUR, DAY] = [60, 3600, 86_400];

/** `now`, `12 s ago`, `3 min ago`, `in 2 h`; null if it is a day away or more. @param seconds negative: in the future */
export function relativeText(seconds: number): string | null {
  const size = Math.abs(seconds);
  if (size >= DAY) return null;
  if (size < 5) return 'now';
  const amount =
    size < MINUTE
      ? `${Math.round(size)} s`
      : size < HOUR
        ? `${Math.floor(size / MINUTE)} min`
        : `${Math.floor(size / HOUR)} h`;
  return seconds > 0 ? `${amount} ago` : `in ${amount}`;
}

const INTERVAL_MS = 10_000;
const clock = createStore(Date.now());
setInterval(() => clock.set(Date.now()), INTERVAL_MS);

/** The time, for texts that become old: it changes every ten seconds. */
function useNow(): number {
  useStore(clock);
  return Date.now();
}
