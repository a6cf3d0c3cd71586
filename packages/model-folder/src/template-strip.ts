import { type JinjaNode, type JinjaValue, methodCallOf, StringValue, textOfValue } from './chat-template-jinja.js';

type Strip = 'strip' | 'lstrip' | 'rstrip';

/** The characters that Python strips from a text. JavaScript also strips U+FEFF, and leaves U+001C to U+001F and U+0085. */
export const WHITE_SPACE: ReadonlySet<string> = new Set(
  '\t\n\v\f\r\x1C\x1D\x1E\x1F \x85\xA0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000',
);

export function isStrip(name: string): name is Strip {
  return /^[lr]?strip$/.test(name);
}

/**
 * Evaluates `text.strip()`, `lstrip` or `rstrip`, also with characters, as Python does. The library ignores the characters.
 *
 * @returns null for any other statement, and if the object or the argument is not a string
 */
export function stripCharacters(
  statement: JinjaNode | undefined,
  evaluate: (expression: JinjaNode) => JinjaValue,
): JinjaValue | null {
  const call = methodCallOf(statement);
  if (call === null || call.args.length > 1 || !isStrip(call.method)) return null;
  const text = textOfValue(evaluate(call.object));
  const [argument] = call.args;
  const characters = argument === undefined ? WHITE_SPACE : charactersOf(evaluate(argument));
  if (text === null || characters === null) return null;
  return new StringValue(stripped(text, characters, call.method));
}

function charactersOf(value: JinjaValue): ReadonlySet<string> | null {
  const text = textOfValue(value);
  return text === null ? null : new Set(text);
}

/** A text without these characters at its start, its end, or both. */
export function stripped(text: string, characters: ReadonlySet<string> = WHITE_SPACE, which: Strip = 'strip'): string {
  let start = 0;
  let end = text.length;
  while (which !== 'rstrip' && start < end) {
    const first = String.fromCodePoint(text.codePointAt(start)!);
    if (!characters.has(first)) break;
    start += first.length;
  }
  while (which !== 'lstrip' && start < end) {
    const last = /[\uDC00-\uDFFF]/.test(text[end - 1]!) ? text.slice(end - 2, end) : text[end - 1]!;
    if (!characters.has(last)) break;
    end -= last.length;
  }
  return text.slice(start, end);
}
