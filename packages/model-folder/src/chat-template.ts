import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ProductError, type Tool } from '@lorasmith/contracts';
import { BoundedInterpreter } from './bounded-interpreter.js';
import { type CallSyntax, callSyntaxOf, writtenTurn } from './call-syntax.js';
import { Environment, type JinjaEnvironment, type JinjaNode, parse, tokenize } from './chat-template-jinja.js';
import { wantsParts, withParts } from './content-form.js';
import type { TemplateMessage } from './conversation.js';
import { type MarkedText, markedParts, withPrintedMarks } from './generation-marks.js';
import { isMissing, type JsonObject, modelFileLabel, unreadable } from './json-file.js';
import { OutlineCache } from './outline-cache.js';
import { findReasoningForm, type ReasoningForm, withReasoning } from './reasoning-form.js';
import { corruptTokenizerFile, isObject, namedTokensOf, readTokenizerConfig } from './tokenizer-config.js';
import { CALLING_TURN, findToolSupport, inForm, PROBE_TOOLS, type ToolSupport } from './tool-form.js';
import { jsonWithWholeFloats, restoreWholeFloats } from './whole-floats.js';

/** Renders a conversation in the text format that the model was trained on. */
export interface ChatTemplate {
  /**
   * @param messages - The conversation. Calls of tools are written in the form that the template wants.
   * @throws ProductError `chat_template_failed` when the template rejects the conversation, has no form for its tools or calls,
   * exceeds a limit or is invalid.
   */
  render(messages: readonly TemplateMessage[], options: RenderOptions): string;
  /**
   * The same text in parts, of a template that says itself with `{% generation %}` which of it the assistant wrote. Null for
   * other templates.
   *
   * @throws as `render`
   */
  renderMarked(messages: readonly TemplateMessage[], options: RenderOptions): MarkedText[] | null;
  /** How the model writes calls of tools; null if the template writes none, or in another way than those that are known. */
  callSyntax(): CallSyntax | null;
}

export interface RenderOptions {
  /** Append the start of the assistant's next turn. */
  addGenerationPrompt: boolean;
  /** Functions that the model may call. @defaultValue none */
  tools?: readonly Tool[] | null;
}

export interface ChatTemplateOptions {
  /** The time for `strftime_now`. @defaultValue the current time */
  now?: Date;
}

const TEMPLATE_FILE = 'chat_template.jinja';
/** The largest known templates have about 30 KB. */
const MAX_TEMPLATE_BYTES = 2 ** 20;
/** Limits, for docs/limits.md. */
export const templateLimits = {
  bytes: { value: MAX_TEMPLATE_BYTES, unit: 'bytes', beyond: '422 `chat_template_failed`' },
};
/** Rows of a dataset have mostly the same tools. */
const MAX_TOOL_LISTS = 16;
/** Templates use `range` only to count messages or tools. */
const MAX_RANGE = 10_000;

/**
 * Loads the chat template of a base-model folder: chat_template.jinja, else `chat_template` in tokenizer_config.json
 * (a string, or a list with a template named "default", and perhaps one named "tool_use" for conversations with tools).
 *
 * @returns null if the folder has no chat template
 * @throws ProductError `model_file_corrupt` naming the file; `chat_template_failed` when the template is invalid
 */
export async function loadChatTemplate(
  folder: string,
  options: ChatTemplateOptions = {},
): Promise<ChatTemplate | null> {
  const config = await readTokenizerConfig(folder);
  const found = await readChatTemplates(folder, config);
  if (found === null) return null;
  // A missing token must be undefined, not null: templates print null as "None".
  const named = Object.entries(namedTokensOf(config)).filter(([, token]) => token !== null);
  const tokens: JsonObject = Object.fromEntries(named.map(([name, token]) => [`${name}_token`, token]));
  const compiled = { tokens, model: basename(folder), ...options };
  const template = compileChatTemplate(found.source, compiled);
  if (found.toolSource === null) return template;
  const withTools = compileChatTemplate(found.toolSource, compiled);
  const templateFor = ({ tools }: RenderOptions) => (tools ? withTools : template);
  return {
    render: (messages, rendering) => templateFor(rendering).render(messages, rendering),
    renderMarked: (messages, rendering) => templateFor(rendering).renderMarked(messages, rendering),
    callSyntax: () => withTools.callSyntax(),
  };
}

interface TemplateSources {
  source: string;
  /** The template for conversations with tools; null: the same. */
  toolSource: string | null;
}

/**
 * The sources of the chat template of a base-model folder; null if it has none.
 * @throws ProductError `model_file_corrupt` naming the file
 */
export async function readChatTemplates(folder: string, config: JsonObject): Promise<TemplateSources | null> {
  const file = await readTemplateFile(folder);
  return file === null ? templatesInConfig(folder, config) : { source: file, toolSource: null };
}

async function readTemplateFile(folder: string): Promise<string | null> {
  const path = join(folder, TEMPLATE_FILE);
  try {
    const status = await stat(path);
    if (!status.isFile()) throw corruptTokenizerFile(folder, TEMPLATE_FILE, 'it is not a file');
    if (status.size > MAX_TEMPLATE_BYTES) {
      const what = `it has ${status.size} bytes; the limit is ${MAX_TEMPLATE_BYTES}`;
      throw corruptTokenizerFile(folder, TEMPLATE_FILE, what);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (error) {
    if (isMissing(error)) return null;
    if (error instanceof TypeError) throw corruptTokenizerFile(folder, TEMPLATE_FILE, 'it is not UTF-8', error);
    throw unreadable(error, modelFileLabel(folder, TEMPLATE_FILE));
  }
}

function templatesInConfig(folder: string, { chat_template: template }: JsonObject): TemplateSources | null {
  if (template === undefined || template === null) return null;
  if (typeof template === 'string') return { source: template, toolSource: null };
  if (Array.isArray(template) && template.every((item) => isObject(item) && typeof item.template === 'string')) {
    const chosen = template.find(({ name }) => name === 'default') ?? (template.length === 1 ? template[0] : undefined);
    const forTools = template.find(({ name }) => name === 'tool_use');
    if (chosen) return { source: chosen.template, toolSource: forTools?.template ?? null };
    throw corruptTokenizerFile(
      folder,
      'tokenizer_config.json',
      'it has several chat templates, but none is named "default"',
    );
  }
  throw corruptTokenizerFile(
    folder,
    'tokenizer_config.json',
    '"chat_template" is neither a string nor a list of templates',
  );
}

interface CompileOptions extends ChatTemplateOptions {
  /** Variables of the template besides the conversation, for instance `bos_token`. */
  tokens: JsonObject;
  /** Name of the base model, for messages. */
  model: string;
}

/** Compiles a template; see {@link loadChatTemplate}. */
export function compileChatTemplate(source: string, { tokens, model, now }: CompileOptions): ChatTemplate {
  const failed = (cause: unknown) => {
    const what = cause instanceof Error ? cause.message : String(cause);
    const message = `The chat template of the base model "${model}" failed: ${what.slice(0, 500)}`;
    return new ProductError('chat_template_failed', message, { cause });
  };
  let renderNow: RenderNow;
  let renderMarks: RenderNow | null;
  try {
    const globals = { ...tokens, ...builtIns(now) };
    // An outline holds what the clock said when it was made.
    const canOutline = now !== undefined || !source.includes('strftime_now');
    renderNow = rendererOf(source, globals, canOutline);
    const marked = withPrintedMarks(source);
    renderMarks = marked === null ? null : rendererOf(marked, globals, canOutline);
  } catch (cause) {
    throw failed(cause);
  }
  let found: ToolSupport | null = null;
  const support = () => {
    found ??= findToolSupport((messages, tools) => renderNow(messages, { addGenerationPrompt: true, tools }));
    return found;
  };
  let reasoning: { form: ReasoningForm | null } | null = null;
  const reasoningForm = () => {
    reasoning ??= {
      form: findReasoningForm(
        (messages, tools) => renderNow(messages, { addGenerationPrompt: false, tools }),
        support().calls,
      ),
    };
    return reasoning.form;
  };
  const inReasoningForm = (messages: readonly TemplateMessage[]) => {
    const index = messages.findIndex((message) => message.reasoning_content !== undefined);
    if (index < 0) return messages;
    const form = reasoningForm();
    if (form === null) throw noReasoning(model, `messages.${index}.reasoning_content`);
    return withReasoning(messages, form);
  };
  const rendered = (render: RenderNow, given: readonly TemplateMessage[], options: RenderOptions) => {
    const messages = inReasoningForm(given);
    const usesCalls = messages.some((message) => message.tool_calls !== undefined);
    const usesTools = options.tools != null || usesCalls;
    if (options.tools != null && !support().tools) throw noToolSupport(model, 'tools', 'tools');
    const form = usesTools ? support().calls : null;
    if (usesCalls && form === null) {
      const index = messages.findIndex((message) => message.tool_calls !== undefined);
      throw noToolSupport(model, 'calls of tools', `messages.${index}.tool_calls`);
    }
    try {
      return render(form === null ? messages : inForm(messages, form), options);
    } catch (cause) {
      throw failed(cause);
    }
  };
  let syntax: { found: CallSyntax | null } | null = null;
  return {
    callSyntax() {
      syntax ??= { found: foundSyntax(renderNow, support()) };
      return syntax.found;
    },
    render: (messages, options) => rendered(renderNow, messages, options),
    renderMarked: (messages, options) =>
      renderMarks === null ? null : markedParts(rendered(renderMarks, messages, options)),
  };
}

function foundSyntax(render: RenderNow, { tools, calls }: ToolSupport): CallSyntax | null {
  if (calls === null) return null;
  const given = tools ? PROBE_TOOLS : null;
  const written = writtenTurn(
    (messages, addGenerationPrompt) => render(messages, { addGenerationPrompt, tools: given }),
    inForm(CALLING_TURN, calls),
  );
  return written === null ? null : callSyntaxOf(written);
}

type RenderNow = (messages: readonly object[], options: RenderOptions) => string;

/** @throws Error when the source is no template */
function rendererOf(source: string, globals: JsonObject, canOutline: boolean): RenderNow {
  // transformers compiles chat templates with the same two options.
  const program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  const variants = new TemplateVariants(program, globals);
  const renderWith = (messages: readonly object[], variables: JinjaEnvironment) =>
    interpret(program, environmentOf({ messages }, variables));
  let inParts: boolean | null = null;
  return (messages, { addGenerationPrompt, tools = null }) => {
    inParts ??= wantsParts((probes) => renderWith(probes, variants.of(null, true).variables));
    const { variables, outlines } = variants.of(tools, addGenerationPrompt);
    const outlined = canOutline && !inParts ? outlines.render(messages as readonly TemplateMessage[]) : null;
    const text = outlined ?? renderWith(inParts ? withParts(messages) : messages, variables);
    if (!text.isWellFormed()) throw new Error('it split a character in the middle');
    return text;
  };
}

/** The variables of a template besides the messages, and its outlines, for each list of tools. */
class TemplateVariants {
  readonly #program: JinjaNode;
  readonly #globals: JsonObject;
  readonly #keys = new WeakMap<readonly Tool[], string>();
  readonly #variants = new Map<string, Variant[]>();

  constructor(program: JinjaNode, globals: JsonObject) {
    this.#program = program;
    this.#globals = globals;
  }

  of(tools: readonly Tool[] | null, addGenerationPrompt: boolean): Variant {
    const key = tools === null ? '' : this.#keyOf(tools);
    const both = this.#variants.get(key) ?? this.#add(key, tools);
    return both[Number(addGenerationPrompt)]!;
  }

  #keyOf(tools: readonly Tool[]): string {
    const known = this.#keys.get(tools) ?? jsonWithWholeFloats(tools);
    this.#keys.set(tools, known);
    return known;
  }

  #add(key: string, tools: readonly Tool[] | null): Variant[] {
    if (this.#variants.size >= MAX_TOOL_LISTS) this.#variants.clear();
    // transformers always passes tools and documents, as none if there are none.
    const globals = environmentOf({ ...this.#globals, tools, documents: null });
    const both = [false, true].map((isAsked) => {
      const variables = environmentOf({ add_generation_prompt: isAsked }, globals);
      return { variables, outlines: new OutlineCache(this.#program, variables) };
    });
    this.#variants.set(key, both);
    return both;
  }
}

interface Variant {
  variables: JinjaEnvironment;
  outlines: OutlineCache;
}

function noToolSupport(model: string, what: string, param: string): ProductError {
  const message =
    `The chat template of the base model "${model}" writes no ${what}, so the model would never see them. Use a model whose ` +
    'template has tools, or put a template with tools into its folder.';
  return new ProductError('chat_template_failed', message, { param });
}

function noReasoning(model: string, param: string): ProductError {
  const message =
    `The chat template of the base model "${model}" writes no reasoning_content, so the model would never see it. Leave it out, or ` +
    'write it into the content as this model writes its reasoning, for instance between <think> and </think>.';
  return new ProductError('chat_template_failed', message, { param });
}

function interpret(program: JinjaNode, variables: JinjaEnvironment): string {
  const { value } = new BoundedInterpreter(variables).run(program);
  if (typeof value !== 'string') throw new Error('its result is not a string');
  return value;
}

/** Templates cannot change the values of a parent, so many renderings share it. */
function environmentOf(values: JsonObject, parent?: JinjaEnvironment): JinjaEnvironment {
  const environment = new Environment(parent);
  for (const [name, value] of Object.entries(values)) restoreWholeFloats(value, environment.set(name, value));
  return environment;
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
