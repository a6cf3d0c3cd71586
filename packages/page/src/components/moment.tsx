import { useNow } from './clock.js';
import { relativeText } from './relative-time.js';

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
