import { EMPTY, NOTHING, type Term, type Terms } from './terms.js';

/** Digits of an integer, and of a fraction: all of them are exact in float64, and a number ends. */
export const MAX_DIGITS = 15;
/** Spaces of an indentation. */
const MAX_INDENT = 24;
const FOREVER = Number.POSITIVE_INFINITY;

interface NumberBound {
  at: number;
  isIncluded: boolean;
}

/** The lexical parts of JSON (RFC 8259) as terms, with white space as it is usually written. */
export class JsonTerms {
  /** The white space after a bracket, a comma or a colon: none, a space, or a line break with an indentation. */
  readonly space: Term;
  /** A string without bounds. */
  readonly string: Term;
  readonly integer: Term;
  readonly number: Term;
  readonly boolean: Term;
  readonly null: Term;
  /** Any value, any object and any array. */
  readonly value: Term;
  readonly object: Term;
  readonly array: Term;
  readonly #terms: Terms;
  readonly #character: Term;
  readonly #quote: Term;

  constructor(terms: Terms) {
    this.#terms = terms;
    const blank = terms.byte(0x20);
    const indent = terms.repeat(terms.choice([blank, terms.byte(0x09)]), 0, MAX_INDENT);
    this.space = terms.unit(terms.choice([EMPTY, blank, terms.sequence(terms.byte(0x0a), indent)]));
    this.#quote = terms.byte(0x22);
    this.#character = terms.choice([...this.#plainCharacters(), ...this.#escapes()]);
    this.string = this.stringOf(0, FOREVER);
    const digit = terms.byte([0x30, 0x39]);
    const whole = terms.choice([
      terms.text('0'),
      terms.sequence(terms.byte([0x31, 0x39]), terms.repeat(digit, 0, MAX_DIGITS - 1)),
    ]);
    const minus = terms.optional(terms.text('-'));
    const fraction = terms.sequence(terms.text('.'), terms.repeat(digit, 1, MAX_DIGITS));
    const sign = terms.optional(terms.byte(0x2b, 0x2d));
    const exponent = terms.sequence(terms.byte(0x65, 0x45), sign, terms.repeat(digit, 1, 2));
    this.integer = terms.unit(terms.sequence(minus, whole));
    this.number = terms.unit(terms.sequence(minus, whole, terms.optional(fraction), terms.optional(exponent)));
    this.boolean = terms.choice([terms.text('true'), terms.text('false')]);
    this.null = terms.text('null');
    let [object, array]: Term[] = [EMPTY, EMPTY];
    this.value = terms.rule((value) => {
      object = this.mapOf(this.string, value);
      array = this.arrayOf(value, 0, FOREVER);
      return terms.choice([this.string, this.number, this.boolean, this.null, object, array]);
    });
    this.object = object!;
    this.array = array!;
  }

  /** A string of so many characters (Unicode code points). */
  stringOf(min: number, max: number): Term {
    const { sequence, unit, repeat } = bound(this.#terms);
    return unit(sequence(this.#quote, repeat(this.#character, min, max), this.#quote));
  }

  /** An array of so many items. */
  arrayOf(item: Term, min: number, max: number): Term {
    const { sequence, repeat, text, optional } = bound(this.#terms);
    const further = sequence(text(','), this.space, item);
    const items = sequence(item, repeat(further, Math.max(0, min - 1), max - 1), this.space);
    const open = sequence(text('['), this.space);
    if (max === 0) return sequence(open, text(']'));
    return sequence(open, min === 0 ? optional(items) : items, text(']'));
  }

  /** An object of any number of members. */
  mapOf(key: Term, value: Term): Term {
    const { sequence, repeat, text, optional } = bound(this.#terms);
    const member = this.member(key, value);
    const further = sequence(text(','), this.space, member);
    const members = sequence(member, repeat(further, 0, FOREVER), this.space);
    return sequence(text('{'), this.space, optional(members), text('}'));
  }

  member(key: Term, value: Term): Term {
    return this.#terms.sequence(key, this.#terms.text(':'), this.space, value);
  }

  /**
   * An object of these members, in their order.
   * @param further one more member, any number of times after the others; may be {@link NOTHING}
   */
  objectOf(members: readonly { term: Term; isRequired: boolean }[], further: Term): Term {
    const { sequence, choice, repeat, text } = bound(this.#terms);
    const comma = sequence(text(','), this.space);
    const more = repeat(sequence(comma, further), 0, FOREVER);
    // What may come before the first member, and after one. Each is a rule, so that few terms wait behind a value.
    let after = this.#rule(sequence(more, this.space, text('}')));
    let first = choice([text('}'), sequence(further, after)]);
    for (const { term, isRequired } of [...members].reverse()) {
      const next = after;
      after = this.#rule(choice([sequence(comma, term, next), ...(isRequired ? [] : [next])]));
      first = this.#rule(choice([sequence(term, next), ...(isRequired ? [] : [first])]));
    }
    return sequence(text('{'), this.space, first);
  }

  #rule(body: Term): Term {
    return body === NOTHING ? NOTHING : this.#terms.rule(() => body);
  }

  /** A string of printable ASCII without escapes that is none of these. */
  keyOtherThan(names: readonly string[]): Term {
    const { sequence, choice, byte, repeat } = bound(this.#terms);
    const plain = [...Array(0x7f - 0x20).keys()].map((i) => 0x20 + i).filter((code) => code !== 0x22 && code !== 0x5c);
    const other = (rests: readonly string[]): Term => {
      const starts = new Map<number, string[]>();
      for (const rest of rests.filter((one) => one !== '')) {
        starts.set(rest.charCodeAt(0), [...(starts.get(rest.charCodeAt(0)) ?? []), rest.slice(1)]);
      }
      const free = plain.filter((code) => !starts.has(code));
      return choice([
        ...(rests.includes('') ? [] : [this.#quote]),
        sequence(byte(...free), repeat(byte(...plain), 0, FOREVER), this.#quote),
        ...[...starts].map(([code, following]) => sequence(byte(code), other(following))),
      ]);
    };
    const isPlain = (name: string) => [...name].every((character) => plain.includes(character.codePointAt(0)!));
    return this.#terms.unit(sequence(this.#quote, other(names.filter(isPlain))));
  }

  /** The characters of well-formed UTF-8 that a string may have unescaped. */
  #plainCharacters(): Term[] {
    const { sequence, byte } = bound(this.#terms);
    const more = byte([0x80, 0xbf]);
    return [
      byte([0x20, 0x21], [0x23, 0x5b], [0x5d, 0x7f]),
      sequence(byte([0xc2, 0xdf]), more),
      sequence(byte(0xe0), byte([0xa0, 0xbf]), more),
      sequence(byte([0xe1, 0xec], [0xee, 0xef]), more, more),
      sequence(byte(0xed), byte([0x80, 0x9f]), more),
      sequence(byte(0xf0), byte([0x90, 0xbf]), more, more),
      sequence(byte([0xf1, 0xf3]), more, more, more),
      sequence(byte(0xf4), byte([0x80, 0x8f]), more, more),
    ];
  }

  /** `\n` and the like, and `\u0000` without the halves of surrogate pairs. */
  #escapes(): Term[] {
    const { sequence, text, byte } = bound(this.#terms);
    const hex = byte([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
    const notD = byte([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]);
    return [
      sequence(text('\\'), byte(...Buffer.from('"\\/bfnrt'))),
      sequence(text('\\u'), notD, hex, hex, hex),
      sequence(text('\\u'), byte(0x44, 0x64), byte([0x30, 0x37]), hex, hex),
    ];
  }

  /** An integer within bounds, both included; of each sign at most {@link MAX_DIGITS} digits. */
  integerWithin(min: number, max: number): Term {
    const most = 10 ** MAX_DIGITS - 1;
    const { sequence, text, choice, unit } = bound(this.#terms);
    const [low, high] = [Math.max(min, -most), Math.min(max, most)];
    const parts = [this.#naturals(Math.max(low, 0), high)];
    if (low < 0) parts.push(sequence(text('-'), this.#naturals(Math.max(1, -high), -low)));
    return unit(choice(parts));
  }

  /** A number within integral bounds, without an exponent. Null: no bound. */
  numberWithin(bounds: Record<'minimum' | 'maximum' | 'exclusiveMinimum' | 'exclusiveMaximum', number | null>): Term {
    const { sequence, text, choice, unit } = bound(this.#terms);
    const most = 10 ** MAX_DIGITS - 1;
    const ends = (inclusive: number | null, exclusive: number | null, sign: 1 | -1): NumberBound => {
      const all = [inclusive ?? sign * -most, exclusive ?? sign * -most].map((value) =>
        Math.max(-most, Math.min(most, value)),
      );
      const at = sign === 1 ? Math.max(...all) : Math.min(...all);
      return { at, isIncluded: exclusive === null || at !== exclusive };
    };
    const low = ends(bounds.minimum, bounds.exclusiveMinimum, 1);
    const high = ends(bounds.maximum, bounds.exclusiveMaximum, -1);
    const zero = { at: 0, isIncluded: true };
    const negated = ({ at, isIncluded }: NumberBound) => ({ at: -at, isIncluded });
    const parts: Term[] = [];
    if (high.at >= 0) parts.push(this.#magnitudes(low.at < 0 ? zero : low, high));
    if (low.at < 0) {
      const nearest = high.at >= 0 ? { at: 0, isIncluded: false } : negated(high);
      parts.push(sequence(text('-'), this.#magnitudes(nearest, negated(low))));
    }
    return unit(choice(parts));
  }

  /** Decimal numbers between two that are not negative. */
  #magnitudes(low: NumberBound, high: NumberBound): Term {
    const { sequence, text, choice, byte, repeat, optional } = bound(this.#terms);
    const digit = byte([0x30, 0x39]);
    const point = text('.');
    const zeros = optional(sequence(point, repeat(text('0'), 1, MAX_DIGITS)));
    const fraction = optional(sequence(point, repeat(digit, 1, MAX_DIGITS)));
    const half = Math.floor(MAX_DIGITS / 2);
    const notZero = sequence(point, repeat(text('0'), 0, half), byte([0x31, 0x39]), repeat(digit, 0, half));
    if (low.at > high.at) return NOTHING;
    if (low.at === high.at) {
      return low.isIncluded && high.isIncluded ? sequence(text(String(low.at)), zeros) : NOTHING;
    }
    return choice([
      ...(low.isIncluded ? [sequence(text(String(low.at)), zeros)] : []),
      ...(low.at < high.at ? [sequence(text(String(low.at)), notZero)] : []),
      sequence(this.#naturals(low.at + 1, high.at - 1), fraction),
      ...(high.isIncluded && high.at > low.at ? [sequence(text(String(high.at)), zeros)] : []),
    ]);
  }

  /** The decimal digits of the integers from `min` to `max`, neither negative. */
  #naturals(min: number, max: number): Term {
    if (max < min) return this.#terms.choice([]);
    const parts: Term[] = [];
    for (let digits = String(min).length; digits <= String(max).length; digits++) {
      const low = Math.max(min, digits === 1 ? 0 : 10 ** (digits - 1));
      parts.push(this.#digits(String(low), String(Math.min(max, 10 ** digits - 1))));
    }
    return this.#terms.choice(parts);
  }

  /** The texts of digits between two of the same length. */
  #digits(low: string, high: string): Term {
    const { sequence, choice, byte, repeat } = bound(this.#terms);
    const all = low.length;
    if (low === '0'.repeat(all) && high === '9'.repeat(all)) return repeat(byte([0x30, 0x39]), all, all);
    const rest = all - 1;
    const [first, last] = [low.charCodeAt(0), high.charCodeAt(0)];
    const [lowRest, highRest] = [low.slice(1), high.slice(1)];
    if (first === last) return sequence(byte(first), this.#digits(lowRest, highRest));
    const parts = [
      sequence(byte(first), this.#digits(lowRest, '9'.repeat(rest))),
      sequence(byte(last), this.#digits('0'.repeat(rest), highRest)),
    ];
    if (last - first > 1) {
      parts.push(sequence(byte([first + 1, last - 1]), repeat(byte([0x30, 0x39]), rest, rest)));
    }
    return choice(parts);
  }
}

/** The makers of terms, to be called by their names alone. */
function bound(terms: Terms) {
  return {
    sequence: terms.sequence.bind(terms),
    choice: terms.choice.bind(terms),
    optional: terms.optional.bind(terms),
    repeat: terms.repeat.bind(terms),
    unit: terms.unit.bind(terms),
    text: terms.text.bind(terms),
    byte: terms.byte.bind(terms),
  };
}
