/** A wait that a service asks for beyond this is not waited for. */
const MAX_DELAY_MS = 120_000;
const FIRST_DELAY_MS = 1_000;
/** Limits, for docs/limits.md. */
export const retryDelayLimits = {
  delay: { value: MAX_DELAY_MS, unit: 'ms', beyond: '503 `openai_unavailable`' },
};

/**
 * The wait before a call is repeated: the one that is asked for, otherwise twice as long each time.
 *
 * @param sent - The failed answer, or why there was none.
 * @param attempt - The number of attempts so far, from 1.
 * @returns null if the service asks for a longer wait than is waited
 */
export function retryDelayMs(sent: Response | Error, attempt: number, now: number = Date.now()): number | null {
  const asked = sent instanceof Response ? askedDelayMs(sent.headers, now) : null;
  const delayMs = asked ?? FIRST_DELAY_MS * 2 ** (attempt - 1);
  return delayMs > MAX_DELAY_MS ? null : delayMs;
}

/** The wait that `retry-after-ms` or `retry-after` asks for, in milliseconds; null: none. */
export function askedDelayMs(headers: Headers, now: number = Date.now()): number | null {
  const inMs = Number(headers.get('retry-after-ms') ?? Number.NaN);
  if (Number.isFinite(inMs) && inMs >= 0) return inMs;
  const text = headers.get('retry-after')?.trim() ?? '';
  if (/^\d{1,9}(?:\.\d+)?$/.test(text)) return Number(text) * 1_000;
  const date = text === '' ? Number.NaN : Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}
