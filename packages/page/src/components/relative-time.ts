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
