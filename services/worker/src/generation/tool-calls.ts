import type { GenerationRequest } from '@lorasmith/contracts';
import { schemaOfCall } from '@lorasmith/json-grammar';
import {
  type CallSyntax,
  compactJson,
  JsonEnd,
  type ModelText,
  membersAsWritten,
  parsedObject,
  type Tokenizer,
} from '@lorasmith/model-folder';

/** The calls of tools in a choice. */
export interface ChoiceCalls {
  parser: CallParser;
  /** Special tokens that are a part of calls, by their ids. */
  tokens: ReadonlyMap<number, string>;
  /** True if the choice ends after its first call. */
  isOne: boolean;
}

/** The calls of tools that an answer may have. */
export interface AnswerCalls {
  /** The text with which the assistant's turn begins, so that a call follows. */
  begun: string;
  /** The schema of an answer that must be a call; null: the model writes what it likes. */
  schema: unknown;
  /** Makes what takes the calls out of one choice. */
  ofChoice(): ChoiceCalls;
}

/** Null where no calls can be in the answer, or nobody knows how the model writes them. */
export async function callsOf({ input }: GenerationRequest, text: ModelText): Promise<AnswerCalls | null> {
  if (input.kind !== 'chat' || input.tools === null) return null;
  const { tools, must_call: mustCall, one_call: isOne } = input;
  const syntax = (await text.template())?.callSyntax() ?? null;
  if (mustCall !== null) {
    const isObject = syntax?.form.kind === 'object';
    const argumentsKey = syntax?.form.kind === 'object' ? syntax.form.argumentsKey : 'arguments';
    const chosen = tools.map((tool) => tool.function).filter(({ name }) => mustCall.includes(name));
    return {
      begun: isObject ? syntax.before : '',
      schema: schemaOfCall(chosen, argumentsKey),
      ofChoice: () => ({ parser: new CallParser(WHOLE_CALL, mustCall), tokens: new Map(), isOne: true }),
    };
  }
  if (syntax === null) return null;
  const names = tools.map((tool) => tool.function.name);
  const tokens = specialTokensIn(syntax, text.tokenizer);
  return { begun: '', schema: null, ofChoice: () => ({ parser: new CallParser(syntax, names), tokens, isOne }) };
}

function specialTokensIn({ before, after, form }: CallSyntax, { specialTokens }: Tokenizer): Map<number, string> {
  const written = before + (form.kind === 'named' ? form.middle : '') + after;
  // What ends a turn is written after calls, too, but is no part of them.
  const isOfCall = (text: string) => written.includes(text) && !/^<\|.*(end|eot|eom).*\|>$|^<\/s>$/.test(text);
  return new Map([...specialTokens].filter(([, text]) => isOfCall(text)));
}

/** A part of an answer: text, or a call of a tool. */
export type AnswerPart = { kind: 'text'; text: string } | { kind: 'call'; name: string; arguments: string };

/** The syntax of a call that is all of an answer. */
export const WHOLE_CALL: CallSyntax = { before: '', after: '', form: { kind: 'object', argumentsKey: 'arguments' } };

/** Takes calls of tools out of the text of an answer as it comes. What only looks like a call stays text. */
export class CallParser {
  readonly #syntax: CallSyntax;
  readonly #names: ReadonlySet<string>;
  /** The text that announces a call, and the one that ends it. Empty: a call starts with `{`, at the start of the answer. */
  readonly #begin: string;
  readonly #end: string;
  #unread = '';
  /** The JSON of a call, once it has begun. */
  #json: { start: number; end: number; looking: JsonEnd } | null = null;
  #state: 'outside' | 'inside' | 'after' = 'outside';
  /** White space that is left out if a call follows, or nothing. */
  #space = '';
  #hasText = false;
  #calls = 0;

  /** @param names of the tools that can be called */
  constructor(syntax: CallSyntax, names: readonly string[]) {
    this.#syntax = syntax;
    this.#names = new Set(names);
    // In a list, `[` belongs to the calls. An empty thought before it is none of theirs.
    this.#begin =
      syntax.before
        .trim()
        .replace(/\s*\[$/, '')
        .split(/\s+/)
        .at(-1) ?? '';
    this.#end =
      syntax.after
        .trim()
        .replace(/^\]/, '')
        .trim()
        .split(/\s|(?=<\||<\/s>)/)[0] ?? '';
  }

  get calls(): number {
    return this.#calls;
  }

  push(text: string): AnswerPart[] {
    const before = this.#unread.length;
    this.#unread += text;
    if (this.#json !== null) {
      // Of a call that continues, only what is new is looked at.
      const end = this.#json.looking.push(text);
      if (end === -1) return [];
      this.#json.end = before + end;
    }
    const parts: AnswerPart[] = [];
    for (;;) {
      const before = this.#unread.length;
      const state = this.#state;
      if (state === 'outside') this.#readText(parts);
      else if (state === 'inside') this.#readCall(parts);
      else this.#readAfter();
      if (this.#unread.length === before && this.#state === state) return parts;
    }
  }

  /** No more text comes. */
  end(): AnswerPart[] {
    const parts: AnswerPart[] = [];
    const begun = this.#state === 'inside' ? this.#begin : '';
    const rest = this.#state === 'after' ? '' : begun + this.#unread;
    this.#unread = '';
    this.#addText(rest, parts);
    if (this.#calls === 0 && this.#space !== '') parts.push({ kind: 'text', text: this.#space });
    return parts;
  }

  #readText(parts: AnswerPart[]): void {
    const begin = this.#begin;
    if (begin === '') {
      const rest = this.#unread.trimStart();
      if (!this.#hasText && rest.startsWith('{')) {
        this.#space += this.#unread.slice(0, this.#unread.length - rest.length);
        this.#unread = rest;
        this.#state = 'inside';
        return;
      }
      this.#addText(this.#unread, parts);
      this.#unread = '';
      return;
    }
    const at = this.#unread.indexOf(begin);
    if (at !== -1) {
      this.#addText(this.#unread.slice(0, at), parts);
      this.#unread = this.#unread.slice(at + begin.length);
      this.#state = 'inside';
      return;
    }
    const kept = startAtEnd(this.#unread, begin);
    this.#addText(this.#unread.slice(0, this.#unread.length - kept), parts);
    this.#unread = this.#unread.slice(this.#unread.length - kept);
  }

  #readCall(parts: AnswerPart[]): void {
    if (this.#json === null) {
      const start = this.#unread.search(this.#syntax.form.kind === 'object' ? /[^\s[]/ : /\{/);
      if (start === -1 && this.#unread.length <= MAX_HEAD) return;
      if (this.#unread[start] !== '{') {
        this.#readNoCall(parts);
        return;
      }
      const looking = new JsonEnd();
      const end = looking.push(this.#unread.slice(start));
      this.#json = { start, end: end === -1 ? -1 : start + end, looking };
    }
    const { start, end } = this.#json;
    if (end === -1) return;
    this.#json = null;
    const found = this.#callOf(this.#unread.slice(0, start).trim(), this.#unread.slice(start, end));
    if (found === null) {
      this.#readNoCall(parts);
      return;
    }
    this.#space = '';
    this.#calls++;
    parts.push({ kind: 'call', ...found });
    this.#unread = this.#unread.slice(end);
    this.#state = 'after';
  }

  #readNoCall(parts: AnswerPart[]): void {
    // One character is text in any case, or the same would be looked at again.
    this.#addText(this.#begin + this.#unread.slice(0, 1), parts);
    this.#unread = this.#unread.slice(1);
    this.#state = 'outside';
  }

  /** @param head - what is before the JSON */
  #callOf(head: string, json: string): Found | null {
    const object = parsedObject(json);
    if (object === null) return null;
    const { form } = this.#syntax;
    if (form.kind === 'object') {
      const key = object.arguments == null ? 'parameters' : 'arguments';
      const written = object[key] == null ? '{}' : membersAsWritten(json).get(key);
      // Some models write them as text, as they are in the OpenAI API.
      return this.#call(object.name, typeof object[key] === 'string' ? object[key] : written);
    }
    const middle = form.middle.trim();
    return head.endsWith(middle) ? this.#call(head.slice(0, head.length - middle.length), json) : null;
  }

  /** @param values - the arguments as written: as numbers of JavaScript, long ids would become other ones */
  #call(name: unknown, values = ''): Found | null {
    const object = parsedObject(values);
    if (typeof name !== 'string' || !this.#names.has(name)) return null;
    if (object === null || Array.isArray(object)) return null;
    return { name, arguments: compactJson(values) };
  }

  #readAfter(): void {
    const rest = this.#unread.trimStart();
    this.#unread = rest;
    if (rest === '' || (this.#end !== '' && rest !== this.#end && this.#end.startsWith(rest))) return;
    if (this.#end !== '' && rest.startsWith(this.#end)) {
      this.#unread = rest.slice(this.#end.length);
      this.#state = 'outside';
    } else if (/^[,;]\s*\{?/.test(rest) || (this.#begin === '' && rest.startsWith('{'))) {
      this.#unread = rest.replace(/^[,;]/, '');
      this.#state = 'inside';
    } else {
      this.#unread = rest.replace(/^\]/, '');
      this.#state = 'outside';
      this.#hasText = true;
    }
  }

  #addText(text: string, parts: AnswerPart[]): void {
    const written = text.trimEnd();
    if (written !== '') {
      this.#hasText = true;
      parts.push({ kind: 'text', text: this.#space + written });
      this.#space = '';
    }
    this.#space += text.slice(written.length);
  }
}

interface Found {
  name: string;
  arguments: string;
}

/** Longer names are no names of tools, and so much white space begins no call. */
const MAX_HEAD = 600;

/** The count of characters at the end of a text that are the start of another. */
export function startAtEnd(text: string, stop: string): number {
  for (let length = Math.min(stop.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
