import { randomBytes } from 'node:crypto';
import type { Tool } from '@lorasmith/contracts';
import type { JsonObject } from '../config/json-file.js';
import { Environment, type JinjaEnvironment, type JinjaNode, parse, tokenize } from './jinja-library.js';
import { jsonWithWholeFloats, restoreWholeFloats } from './python-values.js';
import { TemplateInterpreter } from './template-interpreter.js';
import { type TemplateMessage, wantsParts, withParts } from './template-messages.js';
import { SkeletonCache } from './template-skeleton.js';

export interface RenderOptions {
  /** Append the start of the assistant's next turn. */
  addGenerationPrompt: boolean;
  /** Functions that the model may call. @defaultValue none */
  tools?: readonly Tool[] | null;
}

/** Rows of a dataset have mostly the same tools. */
const MAX_TOOL_LISTS = 16;
/** Templates use `range` only to count messages or tools. */
const MAX_RANGE = 10_000;

/** Renders messages, which are in the form that the template wants but for lists of parts. */
export class TemplateRenderer {
  readonly #program: JinjaNode;
  readonly #globals: JsonObject;
  /** A skeleton keeps what the clock said when it was made. */
  readonly #hasSkeletons: boolean;
  readonly #keysOfTools = new WeakMap<readonly Tool[], string>();
  readonly #variants = new Map<string, readonly [Variant, Variant]>();
  #wantsParts: boolean | null = null;

  /**
   * @param tokens variables of the template besides the conversation
   * @param now the time for `strftime_now`. @defaultValue the current time
   * @throws Error when the source is no template
   */
  constructor(source: string, tokens: JsonObject, now: Date | undefined) {
    // transformers compiles chat templates with the same two options.
    this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    this.#globals = { ...tokens, ...builtIns(now) };
    this.#hasSkeletons = now !== undefined || !source.includes('strftime_now');
  }

  /** @throws Error when the template throws, exceeds a limit, or writes what is no text */
  render(messages: readonly object[], { addGenerationPrompt, tools = null }: RenderOptions): string {
    this.#wantsParts ??= wantsParts((probes) => this.#interpret(probes, this.#variantOf(null, true).variables));
    const { variables, skeletons } = this.#variantOf(tools, addGenerationPrompt);
    const useSkeletons = this.#hasSkeletons && !this.#wantsParts;
    const known = useSkeletons ? skeletons.render(messages as readonly TemplateMessage[]) : null;
    const text = known ?? this.#interpret(this.#wantsParts ? withParts(messages) : messages, variables);
    if (!text.isWellFormed()) throw new Error('it split a character in the middle');
    return text;
  }

  #interpret(messages: readonly object[], variables: JinjaEnvironment): string {
    const { value } = new TemplateInterpreter(environmentOf({ messages }, variables)).run(this.#program);
    if (typeof value !== 'string') throw new Error('its result is not a string');
    return value;
  }

  #variantOf(tools: readonly Tool[] | null, addGenerationPrompt: boolean): Variant {
    const key = tools === null ? '' : this.#keyOf(tools);
    const both = this.#variants.get(key) ?? this.#addVariants(key, tools);
    return both[addGenerationPrompt ? 1 : 0];
  }

  #keyOf(tools: readonly Tool[]): string {
    const known = this.#keysOfTools.get(tools) ?? jsonWithWholeFloats(tools);
    this.#keysOfTools.set(tools, known);
    return known;
  }

  #addVariants(key: string, tools: readonly Tool[] | null): readonly [Variant, Variant] {
    if (this.#variants.size >= MAX_TOOL_LISTS) this.#variants.clear();
    // transformers always passes tools and documents, as none if there are none.
    const globals = environmentOf({ ...this.#globals, tools, documents: null });
    const variant = (isAsked: boolean): Variant => {
      const variables = environmentOf({ add_generation_prompt: isAsked }, globals);
      return { variables, skeletons: new SkeletonCache(this.#program, variables) };
    };
    const both = [variant(false), variant(true)] as const;
    this.#variants.set(key, both);
    return both;
  }
}

/** The variables of a template besides the messages, and its skeletons, for a list of tools. */
interface Variant {
  variables: JinjaEnvironment;
  skeletons: SkeletonCache;
}

/** Templates cannot change the values of a parent, so many renderings share it. */
function environmentOf(values: JsonObject, parent?: JinjaEnvironment): JinjaEnvironment {
  const environment = new Environment(parent);
  for (const [name, value] of Object.entries(values)) restoreWholeFloats(value, environment.set(name, value));
  return environment;
}

/** A part of a rendered conversation. */
export interface MarkedText {
  text: string;
  /** True within `{% generation %}`: the template says that the assistant wrote it. */
  isGenerated: boolean;
}

/** The marks as transformers reads them, with the white space that Jinja removes around a block. */
const MARK = /(?:^[ \t]*)?\{%(-?)\s*(?:end)?generation\s*(-?)%\}\n?/gm;
/** The text that the marks print. No template or conversation contains it. */
const SEPARATOR = `\uE000${randomBytes(16).toString('hex')}\uE000`;

/** The source with marks that print a separator; null if it has no marks. */
export function withPrintedMarks(source: string): string | null {
  if (!/\{%-?\s*generation\s*-?%\}/.test(source)) return null;
  return source.replace(MARK, (_, left: string, right: string) => `{{${left} "${SEPARATOR}" ${right}}}`);
}

/** The parts of a text that such a source printed; null if a mark is not closed. */
export function markedParts(text: string): MarkedText[] | null {
  const parts = text.split(SEPARATOR);
  if (parts.length % 2 === 0) return null;
  return parts.map((part, index) => ({ text: part, isGenerated: index % 2 === 1 }));
}

/** The globals of chat templates in transformers. */
function builtIns(now: Date | undefined): JsonObject {
  return {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    raise_exception: (message: string) => {
      throw new Error(message);
    },
    range: boundedRange,
    strftime_now: (format: string) => formatTime(now ?? new Date(), format),
  };
}

function boundedRange(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.ceil((stop - start) / step);
  if (!(length <= MAX_RANGE)) throw new Error(`range() of more than ${MAX_RANGE} numbers.`);
  return Array.from({ length: Math.max(0, length) }, (_, index) => start + index * step);
}

/**
 * Python's strftime for the directives that templates use, in UTC: hosts in different time zones make the same tokens. Names are English,
 * whatever the machine's locale is.
 */
function formatTime(time: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const name = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat('en-US', { ...options, timeZone: 'UTC' }).format(time);
  const directives: Record<string, () => string> = {
    '%Y': () => String(time.getUTCFullYear()),
    '%y': () => two(time.getUTCFullYear() % 100),
    '%m': () => two(time.getUTCMonth() + 1),
    '%d': () => two(time.getUTCDate()),
    '%b': () => name({ month: 'short' }),
    '%B': () => name({ month: 'long' }),
    '%a': () => name({ weekday: 'short' }),
    '%A': () => name({ weekday: 'long' }),
    '%H': () => two(time.getUTCHours()),
    '%M': () => two(time.getUTCMinutes()),
    '%S': () => two(time.getUTCSeconds()),
    '%%': () => '%',
  };
  return format.replace(/%./g, (directive) => {
    const formatted = directives[directive]?.();
    if (formatted === undefined) throw new Error(`strftime_now: the directive ${directive} is not supported.`);
    return formatted;
  });
}
