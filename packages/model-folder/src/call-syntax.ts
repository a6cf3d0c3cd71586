import { jsonEnd, parsedObject } from './json-in-text.js';
import { CALLING_PROBE } from './tool-form.js';

/** How a model writes a call of a tool, as its chat template does. */
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
