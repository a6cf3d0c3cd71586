import type { JinjaNode, JinjaValue } from './chat-template-jinja.js';

interface Expression extends JinjaNode {
  value?: unknown;
}

type Strip = 'strip' | 'lstrip' | 'rstrip';

interface StripCall {
  callee: { object: Expression; property: { value: Strip } };
  args: [Expression];
}

/** Whether a statement is `text.strip(characters)`, `lstrip` or `rstrip`. */
export function isStripCall(statement: unknown): statement is StripCall {
  const call = statement as (Expression & { callee: unknown; args: unknown[] }) | undefined;
  if (call?.type !== 'CallExpression' || call.args.length !== 1) return false;
  const { type, computed, property } = call.callee as Expression & { computed: boolean; property: Expression };
  return type === 'MemberExpression' && !computed && isStrip(String(property.value));
}

export function isStrip(name: string): name is Strip {
  return /^[lr]?strip$/.test(name);
}

/**
 * Evaluates such a call. The library ignores the argument and strips whitespace.
 *
 * @returns null if the object or the argument is not a string
 */
export function stripCharacters(
  { callee, args }: StripCall,
  evaluate: (expression: JinjaNode) => JinjaValue,
): JinjaValue | null {
  const text = evaluate(callee.object);
  const characters = evaluate(args[0]);
  if (typeof text.value !== 'string' || typeof characters.value !== 'string') return null;
  const StringValue = text.constructor as new (value: string) => JinjaValue;
  return new StringValue(stripped(text.value, new Set(characters.value), callee.property.value));
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
