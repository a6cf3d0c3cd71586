import type { Term, Terms } from './terms.js';

/** Texts of the formats of JSON Schema that are supported (RFC 3339, RFC 9562), without the 29th of February. */
export function formatTerms(terms: Terms): Record<string, () => Term> {
  const digit = terms.byte([0x30, 0x39]);
  const hex = terms.byte([0x30, 0x39], [0x61, 0x66]);
  const text = terms.text.bind(terms);
  const sequence = terms.sequence.bind(terms);
  /** Numbers of two digits. */
  const two = (first: number, last: number) =>
    terms.choice(Array.from({ length: last - first + 1 }, (_, i) => text(String(first + i).padStart(2, '0'))));
  const months = (...numbers: number[]) => terms.choice(numbers.map((month) => two(month, month)));
  const date = () =>
    sequence(
      terms.byte([0x31, 0x39]),
      terms.repeat(digit, 3, 3),
      text('-'),
      terms.choice([
        sequence(two(1, 12), text('-'), two(1, 28)),
        sequence(months(1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), text('-'), two(29, 30)),
        sequence(months(1, 3, 5, 7, 8, 10, 12), text('-31')),
      ]),
    );
  const time = () => {
    const fraction = terms.optional(sequence(text('.'), terms.repeat(digit, 1, 9)));
    const offset = sequence(terms.byte(0x2b, 0x2d), two(0, 23), text(':'), two(0, 59));
    const zone = terms.choice([text('Z'), offset]);
    return sequence(two(0, 23), text(':'), two(0, 59), text(':'), two(0, 59), fraction, zone);
  };
  const byte = () => terms.choice(['25', '2', '1', ''].map(firstDigits));
  const firstDigits = (first: string) => {
    if (first === '25') return sequence(text('25'), terms.byte([0x30, 0x35]));
    if (first === '2') return sequence(text('2'), terms.byte([0x30, 0x34]), digit);
    if (first === '1') return sequence(text('1'), digit, digit);
    return terms.choice([digit, sequence(terms.byte([0x31, 0x39]), digit)]);
  };
  const group = (length: number) => terms.repeat(hex, length, length);
  return {
    date,
    time,
    'date-time': () => sequence(date(), text('T'), time()),
    uuid: () => sequence(group(8), text('-'), group(4), text('-'), group(4), text('-'), group(4), text('-'), group(12)),
    ipv4: () => sequence(byte(), text('.'), byte(), text('.'), byte(), text('.'), byte()),
  };
}
