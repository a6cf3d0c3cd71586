import { CALLING_PROBE } from './template-messages.js';

/** The syntax in which a model writes a call of a tool, as its chat template does. */
export interface CallSyntax {
  /** The text before a call, such as `<tool_call>\n`. Empty where a call is an answer of nothing but JSON. */
  before: string;
  /** The text after it. */
  after: string;
  form: /** `{"name": …, "arguments": …}`, with this name of the arguments. */
    | { kind: 'object'; argumentsKey: 'arguments' | 'parameters' }
    /** The name, `[ARGS]`, and the JSON of the arguments, as newer models of Mistral write it. */
    | { kind: 'named'; middle: typeof NAME_END };
}

const NAME_END = '[ARGS]';

const ARGUMENTS_KEYS = ['arguments', 'parameters'] as const;

/**
 * Finds the syntax in what a template writes of a conversation whose assistant calls a tool; null if it is another one.
 * @param written the text of the assistant's turn
 */
export function callSyntaxOf(written: string): CallSyntax | null {
  const { name } = CALLING_PROBE;
  const at = written.indexOf(name);
  if (at === -1) return null;
  for (
    let start = written.lastIndexOf('{', at);
    start !== -1;
    start = start === 0 ? -1 : written.lastIndexOf('{', start - 1)
  ) {
    const end = jsonEnd(written, start);
    const call = end === -1 ? null : parsedObject(written.slice(start, end));
    if (call?.name !== name) continue;
    const argumentsKey = ARGUMENTS_KEYS.find((key) => isProbe(call[key]));
    if (argumentsKey === undefined) return null;
    return { before: written.slice(0, start), after: written.slice(end), form: { kind: 'object', argumentsKey } };
  }
  const start = at + name.length + NAME_END.length;
  const end = written.startsWith(`${name}${NAME_END}{`, at) ? jsonEnd(written, start) : -1;
  if (end === -1 || !isProbe(parsedObject(written.slice(start, end)))) return null;
  return { before: written.slice(0, at), after: written.slice(end), form: { kind: 'named', middle: NAME_END } };
}

function isProbe(value: unknown): boolean {
  return JSON.stringify(value) === JSON.stringify(CALLING_PROBE.arguments);
}

/** The text of a template after the start of the assistant's turn; null if it writes no such turn. */
export function writtenTurn(
  render: (messages: readonly object[], addGenerationPrompt: boolean) => string,
  messages: readonly object[],
): string | null {
  try {
    const whole = render(messages, false);
    const starts = [true, false].map((isAsked) => render(messages.slice(0, 1), isAsked));
    const start = starts.find((text) => whole.startsWith(text));
    return start === undefined ? null : whole.slice(start.length);
  } catch {
    return null;
  }
}

/** Looks for the end of a JSON object or array that comes in chunks, each of which it reads once. */
export class JsonEnd {
  #depth = 0;
  #isString = false;
  #isEscaped = false;

  /** @returns the index after the end of the JSON in this chunk; -1 if it continues */
  push(chunk: string): number {
    for (let at = 0; at < chunk.length; at++) {
      const character = chunk[at];
      if (this.#isEscaped) this.#isEscaped = false;
      else if (this.#isString) {
        if (character === '\\') this.#isEscaped = true;
        else if (character === '"') this.#isString = false;
      } else if (character === '"') this.#isString = true;
      else if (character === '{' || character === '[') this.#depth++;
      else if (character === '}' || character === ']') {
        this.#depth--;
        if (this.#depth === 0) return at + 1;
      }
    }
    return -1;
  }
}

/** The index after the JSON object or array that starts at an index of a text; -1 if the text ends before it. */
export function jsonEnd(text: string, start: number): number {
  const end = new JsonEnd().push(text.slice(start));
  return end === -1 ? -1 : start + end;
}

/** The JSON object or array that a text is; null for any other text. */
export function parsedObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

const JSON_STRING = String.raw`"[^"\\]*(?:\\.[^"\\]*)*"`;
/** Strings of JSON, and what separates its values. */
const JSON_PARTS = new RegExp(String.raw`${JSON_STRING}|[{}[\],:]`, 'g');
/** Strings of JSON, or the white space between its parts. */
const JSON_SPACES = new RegExp(String.raw`(${JSON_STRING})|\s+`, 'g');

/** The members of a JSON object, each with its value as it is written; of members with the same name, the last. */
export function membersAsWritten(json: string): ReadonlyMap<string, string> {
  const members = new Map<string, string>();
  let depth = 0;
  let name = '';
  let start = -1;
  for (const { 0: part, index } of json.matchAll(JSON_PARTS)) {
    if (part === '{' || part === '[') depth++;
    else if (part === '}' || part === ']') depth--;
    if (depth === 1 && start === -1 && part.startsWith('"')) name = JSON.parse(part) as string;
    else if (depth === 1 && part === ':') start = index + 1;
    else if (start !== -1 && (depth === 0 || (depth === 1 && part === ','))) {
      members.set(name, json.slice(start, index).trim());
      start = -1;
    }
  }
  return members;
}

/** JSON without the white space between its parts. Everything else is as written: a number keeps all its digits. */
export function compactJson(json: string): string {
  return json.replace(JSON_SPACES, '$1');
}
