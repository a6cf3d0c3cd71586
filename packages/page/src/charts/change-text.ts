import { numberText } from './number-text.js';

/** The first and the last value, `0.694 → 0.002`, or the only one; empty without values. */
export function changeText(values: readonly number[], text: (value: number) => string = shortText): string {
  const [first] = values;
  const last = values.at(-1);
  if (first === undefined || last === undefined) return '';
  return values.length === 1 ? text(last) : `${text(first)} → ${text(last)}`;
}

function shortText(value: number): string {
  return numberText(Number(value.toPrecision(3)));
}
