/** A number with an optional sign, thousands separators, a fraction and an exponent. */
const NUMBER = /[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?|[-+]?\.\d+(?:e[-+]?\d+)?/gi;
/** Longer ones are no numbers that anyone compares. */
const MAX_CHARACTERS = 100;

/** The last number in a text; null: there is none. A comma between three digits and three is a separator of thousands. */
export function lastNumberIn(text: string): number | null {
  const last = text.match(NUMBER)?.at(-1);
  if (last === undefined || last.length > MAX_CHARACTERS) return null;
  const number = Number(last.replaceAll(',', ''));
  return Number.isFinite(number) ? number : null;
}
