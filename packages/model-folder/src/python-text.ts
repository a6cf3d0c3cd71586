import { type JinjaValue, textOfValue } from './chat-template-jinja.js';

/** The text that Python's `str` makes of a value of a template: `True`, `None`, `1.0`, `['a', 1]`. That of an undefined value is empty. */
export function pythonText(value: JinjaValue): string {
  return value.type === 'UndefinedValue' ? '' : (textOfValue(value) ?? pythonRepr(value));
}

function pythonRepr(value: JinjaValue): string {
  const { type, value: held } = value;
  if (typeof held === 'string') return quoted(held);
  if (typeof held === 'boolean') return held ? 'True' : 'False';
  if (type === 'NullValue') return 'None';
  if (type === 'FloatValue') return pythonFloat(held as number);
  if (type === 'ArrayValue') return `[${(held as JinjaValue[]).map(pythonRepr).join(', ')}]`;
  if (type !== 'ObjectValue') return value.toString();
  const entries = [...(held as Map<string, JinjaValue>)];
  return `{${entries.map(([key, part]) => `${quoted(key)}: ${pythonRepr(part)}`).join(', ')}}`;
}

/** A number as Python's `repr` and `json.dumps` write a float. Python changes to exponents elsewhere than JavaScript, with two digits. */
export function pythonFloat(value: number): string {
  const [digits, power] = value.toExponential().split('e');
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    return `${digits}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  const text = Object.is(value, -0) ? '-0' : String(value);
  return Number.isInteger(value) ? `${text}.0` : text;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A text as Python writes it in a list: in single quotes, unless it has these and no double ones. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\\p{C}\p{Z}]/gu, (character) => (character === ' ' ? ' ' : escapeOf(character)));
  return `${quote}${escaped.replaceAll(quote, `\\${quote}`)}${quote}`;
}

function escapeOf(character: string): string {
  const code = character.codePointAt(0)!;
  const [letter, length] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8];
  return ESCAPES[character] ?? `\\${letter}${code.toString(16).padStart(length, '0')}`;
}
