import { type JinjaNode, type JinjaValue, methodCallOf, StringValue, textOfValue } from './chat-template-jinja.js';

type Strip = 'strip' | 'lstrip' | 'rstrip';

export function isStrip(name: string): name is Strip {
  return /^[lr]?strip$/.test(name);
}

/**
 * Evaluates `text.strip(characters)`, `lstrip` or `rstrip`. The library ignores the argument and strips whitespace.
 *
 * @returns null for any other statement, and if the object or the argument is not a string
 */
export function stripCharacters(
  statement: JinjaNode | undefined,
  evaluate: (expression: JinjaNode) => JinjaValue,
): JinjaValue | null {
  const call = methodCallOf(statement);
  if (call === null || call.args.length !== 1 || !isStrip(call.method)) return null;
  const text = textOfValue(evaluate(call.object));
  const characters = textOfValue(evaluate(call.args[0]!));
  if (text === null || characters === null) return null;
  return new StringValue(stripped(text, new Set(characters), call.method));
}

/** A text without these characters at its start, its end, or both. */
export function stripped(text: string, characters: ReadonlySet<string>, which: Strip): string {
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
