import { type CallSyntax, jsonEnd, parsedObject } from '@lorasmith/model-folder';
import { startAtEnd } from './stop-texts.js';

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
  #held = '';
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
    this.#held += text;
    const parts: AnswerPart[] = [];
    for (;;) {
      const before = this.#held.length;
      const state = this.#state;
      if (state === 'outside') this.#readText(parts);
      else if (state === 'inside') this.#readCall(parts);
      else this.#readAfter();
      if (this.#held.length === before && this.#state === state) return parts;
    }
  }

  /** No more text comes. */
  end(): AnswerPart[] {
    const parts: AnswerPart[] = [];
    const begun = this.#state === 'inside' ? this.#begin : '';
    const rest = this.#state === 'after' ? '' : begun + this.#held;
    this.#held = '';
    this.#addText(rest, parts);
    if (this.#calls === 0 && this.#space !== '') parts.push({ kind: 'text', text: this.#space });
    return parts;
  }

  #readText(parts: AnswerPart[]): void {
    const begin = this.#begin;
    if (begin === '') {
      if (!this.#hasText && this.#held.trimStart().startsWith('{')) {
        this.#held = this.#held.trimStart();
        this.#state = 'inside';
        return;
      }
      this.#addText(this.#held, parts);
      this.#held = '';
      return;
    }
    const at = this.#held.indexOf(begin);
    if (at !== -1) {
      this.#addText(this.#held.slice(0, at), parts);
      this.#held = this.#held.slice(at + begin.length);
      this.#state = 'inside';
      return;
    }
    const kept = startAtEnd(this.#held, begin);
    this.#addText(this.#held.slice(0, this.#held.length - kept), parts);
    this.#held = this.#held.slice(this.#held.length - kept);
  }

  #readCall(parts: AnswerPart[]): void {
    const found = this.#syntax.form.kind === 'object' ? this.#objectCall() : this.#namedCall(this.#syntax.form.middle);
    if (found === 'incomplete') return;
    if (found === null) {
      // One character is text in any case, or the same would be looked at again.
      this.#addText(this.#begin + this.#held.slice(0, 1), parts);
      this.#held = this.#held.slice(1);
      this.#state = 'outside';
      return;
    }
    this.#space = '';
    this.#calls++;
    parts.push({ kind: 'call', name: found.name, arguments: found.arguments });
    this.#held = this.#held.slice(found.end);
    this.#state = 'after';
  }

  #objectCall(): Found | null | 'incomplete' {
    const start = this.#held.search(/[^\s[]/);
    if (start === -1) return 'incomplete';
    if (this.#held[start] !== '{') return null;
    const end = jsonEnd(this.#held, start);
    if (end === -1) return 'incomplete';
    const value = parsedObject(this.#held.slice(start, end));
    const { name, arguments: given, parameters } = value ?? {};
    return this.#call(name, given ?? parameters ?? {}, end);
  }

  #namedCall(middle: string): Found | null | 'incomplete' {
    const start = this.#held.indexOf('{');
    if (start === -1) return this.#held.length > MAX_NAME ? null : 'incomplete';
    const name = this.#held.slice(0, start).trim();
    if (!name.endsWith(middle.trim())) return null;
    const end = jsonEnd(this.#held, start);
    if (end === -1) return 'incomplete';
    return this.#call(
      name.slice(0, name.length - middle.trim().length),
      parsedObject(this.#held.slice(start, end)),
      end,
    );
  }

  #call(name: unknown, values: unknown, end: number): Found | null {
    const object = typeof values === 'string' ? parsedObject(values) : values;
    if (typeof name !== 'string' || !this.#names.has(name)) return null;
    if (typeof object !== 'object' || object === null || Array.isArray(object)) return null;
    return { name, arguments: JSON.stringify(object), end };
  }

  #readAfter(): void {
    const rest = this.#held.trimStart();
    if (rest === '' || (this.#end !== '' && rest !== this.#end && this.#end.startsWith(rest))) return;
    if (this.#end !== '' && rest.startsWith(this.#end)) {
      this.#held = rest.slice(this.#end.length);
      this.#state = 'outside';
    } else if (/^[,;]\s*\{?/.test(rest) || (this.#begin === '' && rest.startsWith('{'))) {
      this.#held = rest.replace(/^[,;]/, '');
      this.#state = 'inside';
    } else {
      this.#held = rest.replace(/^\]/, '');
      this.#state = 'outside';
      this.#hasText = true;
    }
  }

  #addText(text: string, parts: AnswerPart[]): void {
    const whole = this.#space + text;
    const written = whole.trimEnd();
    this.#space = whole.slice(written.length);
    if (written === '') return;
    this.#hasText = true;
    parts.push({ kind: 'text', text: written });
  }
}

interface Found {
  name: string;
  arguments: string;
  /** Where the call ends in the held text. */
  end: number;
}

/** Longer names are no names of tools. */
const MAX_NAME = 600;
