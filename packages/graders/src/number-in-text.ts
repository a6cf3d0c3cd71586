/** A number with an optional sign, thousands separators, a fraction and an exponent. The minus of typesetting (U+2212) is one. */
const NUMBER =
  /[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+\u2212]?\d+)?|[-+\u2212]?\.\d+(?:e[-+\u2212]?\d+)?/gi;
const PARTS = /^([-+]?)(\d*)(?:\.(\d+))?(?:e([-+]?\d+))?$/i;
/** Longer ones are no numbers that anyone compares. */
const MAX_CHARACTERS = 100;
/** So that the digits of a number stay few: JavaScript's numbers end at 308. */
const MAX_EXPONENT = 1_000;

/** A decimal number as it is written: `digits` × 10^`exponent`. */
export interface Decimal {
  digits: bigint;
  exponent: number;
}

/** The last number in a text; null: there is none. A comma between three digits and three is a separator of thousands. */
export function lastNumberIn(text: string): Decimal | null {
  const last = text.match(NUMBER)?.at(-1);
  return last === undefined || last.length > MAX_CHARACTERS ? null : decimalOf(last);
}

/** True if two numbers differ by at most the tolerance, all three as they are written: 0.31 is within 0.01 of 0.3. */
export function areWithin(tolerance: number, one: Decimal, other: Decimal): boolean {
  const most = decimalOf(String(tolerance));
  if (most === null) return false;
  const exponent = Math.min(one.exponent, other.exponent, most.exponent);
  const scaled = (decimal: Decimal) => decimal.digits * 10n ** BigInt(decimal.exponent - exponent);
  const difference = scaled(one) - scaled(other);
  return (difference < 0n ? -difference : difference) <= scaled(most);
}

/** Null for an exponent beyond those that are compared. */
function decimalOf(literal: string): Decimal | null {
  const text = literal.replaceAll(',', '').replaceAll('\u2212', '-');
  const [, sign = '', whole = '', fraction = '', power = '0'] = PARTS.exec(text) ?? [];
  const digits = BigInt(`${sign === '-' ? '-' : ''}${whole}${fraction}`);
  if (digits === 0n) return { digits, exponent: 0 };
  const exponent = Number(power) - fraction.length;
  return Math.abs(exponent) <= MAX_EXPONENT ? { digits, exponent } : null;
}
