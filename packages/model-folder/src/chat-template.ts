import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Message, ProductError } from '@lorasmith/contracts';
import { BoundedInterpreter } from './bounded-interpreter.js';
import { Environment, type JinjaEnvironment, type JinjaNode, parse, tokenize } from './chat-template-jinja.js';
import { isMissing, type JsonObject, modelFileLabel, unreadable } from './json-file.js';
import { OutlineCache } from './outline-cache.js';
import { corruptTokenizerFile, isObject, namedTokensOf, readTokenizerConfig } from './tokenizer-config.js';

/** Renders a conversation in the text format that the model was trained on. */
export interface ChatTemplate {
  /**
   * @param messages - The conversation.
   * @param options - `addGenerationPrompt`: append the start of the assistant's next turn.
   * @throws ProductError `chat_template_failed` when the template rejects the conversation, exceeds a limit or is invalid.
   */
  render(messages: readonly Message[], options: { addGenerationPrompt: boolean }): string;
}

export interface ChatTemplateOptions {
  /** The time for `strftime_now`. @defaultValue the current time */
  now?: Date;
}

const TEMPLATE_FILE = 'chat_template.jinja';
/** The largest known templates have about 30 KB. */
const MAX_TEMPLATE_BYTES = 2 ** 20;
/** Templates use `range` only to count messages or tools. */
const MAX_RANGE = 10_000;

/**
 * Loads the chat template of a base-model folder: chat_template.jinja, else `chat_template` in tokenizer_config.json
 * (a string, or a list with a template named "default").
 *
 * @returns null if the folder has no chat template
 * @throws ProductError `model_file_corrupt` naming the file; `chat_template_failed` when the template is invalid
 */
export async function loadChatTemplate(
  folder: string,
  options: ChatTemplateOptions = {},
): Promise<ChatTemplate | null> {
  const config = await readTokenizerConfig(folder);
  const source = (await readTemplateFile(folder)) ?? templateInConfig(folder, config);
  if (source === null) return null;
  const { bos, eos, pad, unk } = namedTokensOf(config);
  const tokens: JsonObject = { bos_token: bos, eos_token: eos, pad_token: pad, unk_token: unk };
  // A missing token must be undefined, not null: templates print null as "None".
  for (const [name, token] of Object.entries(tokens)) if (token === null) delete tokens[name];
  return compileChatTemplate(source, { tokens, model: basename(folder), ...options });
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

function templateInConfig(folder: string, { chat_template: template }: JsonObject): string | null {
  if (template === undefined || template === null) return null;
  if (typeof template === 'string') return template;
  if (Array.isArray(template) && template.every((item) => isObject(item) && typeof item.template === 'string')) {
    const chosen = template.find(({ name }) => name === 'default') ?? (template.length === 1 ? template[0] : undefined);
    if (chosen) return chosen.template;
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
  let program: JinjaNode;
  try {
    // transformers compiles chat templates with the same two options.
    program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  } catch (cause) {
    throw failed(cause);
  }
  // transformers always passes tools and documents, as none if there are none.
  const globals = environmentOf({ ...tokens, ...builtIns(now), tools: null, documents: null });
  const [unasked, asked] = [false, true].map((isAsked) => {
    const variables = environmentOf({ add_generation_prompt: isAsked }, globals);
    return { variables, outlines: new OutlineCache(program, variables) };
  });
  // An outline holds what the clock said when it was made.
  const canOutline = now !== undefined || !source.includes('strftime_now');
  return {
    render(messages, { addGenerationPrompt }) {
      try {
        const { variables, outlines } = (addGenerationPrompt ? asked : unasked)!;
        const outlined = canOutline ? outlines.render(messages) : null;
        const text = outlined ?? interpret(program, environmentOf({ messages }, variables));
        if (!text.isWellFormed()) throw new Error('it split a character in the middle');
        return text;
      } catch (cause) {
        throw failed(cause);
      }
    },
  };
}

function interpret(program: JinjaNode, variables: JinjaEnvironment): string {
  const { value } = new BoundedInterpreter(variables).run(program);
  if (typeof value !== 'string') throw new Error('its result is not a string');
  return value;
}

/** Templates cannot change the values of a parent, so many renderings share it. */
function environmentOf(values: JsonObject, parent?: JinjaEnvironment): JinjaEnvironment {
  const environment = new Environment(parent);
  for (const [name, value] of Object.entries(values)) environment.set(name, value);
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

/** Python's strftime for the directives that templates use. Names are English, independent of the machine's locale. */
function formatTime(time: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const name = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat('en-US', options).format(time);
  const directives: Record<string, () => string> = {
    '%Y': () => String(time.getFullYear()),
    '%y': () => two(time.getFullYear() % 100),
    '%m': () => two(time.getMonth() + 1),
    '%d': () => two(time.getDate()),
    '%b': () => name({ month: 'short' }),
    '%B': () => name({ month: 'long' }),
    '%a': () => name({ weekday: 'short' }),
    '%A': () => name({ weekday: 'long' }),
    '%H': () => two(time.getHours()),
    '%M': () => two(time.getMinutes()),
    '%S': () => two(time.getSeconds()),
    '%%': () => '%',
  };
  return format.replace(/%./g, (directive) => {
    const formatted = directives[directive]?.();
    if (formatted === undefined) throw new Error(`strftime_now: the directive ${directive} is not supported.`);
    return formatted;
  });
}
