import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Message, ProductError } from '@lorasmith/contracts';
import {
  Environment,
  Interpreter,
  type JinjaEnvironment,
  type JinjaProgram,
  type JinjaValue,
  parse,
  tokenize,
} from './chat-template-jinja.js';
import { isMissing, type JsonObject, modelFileLabel, unreadable } from './json-file.js';
import { isStripCall, stripCharacters } from './template-strip.js';
import { TemplateValueWeights } from './template-value-weight.js';
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
/** Templates are untrusted code. A conversation takes about 50 steps per message; this limit takes one or two seconds. */
const MAX_STEPS = 200_000;
/** Creating this many characters of text or lists takes about as long as one step, so it counts as one. */
const CHARACTERS_PER_STEP = 4_096;
/** Twice the longest line of a dataset. */
const MAX_OUTPUT_CHARACTERS = 32 * 1024 * 1024;
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
  let program: JinjaProgram;
  try {
    // transformers compiles chat templates with the same two options.
    program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  } catch (cause) {
    throw failed(cause);
  }
  return {
    render(messages, { addGenerationPrompt }) {
      try {
        const environment = new Environment();
        // transformers always passes tools and documents, as none if there are none.
        const absent = { tools: null, documents: null };
        const variables = { messages, add_generation_prompt: addGenerationPrompt };
        const globals = { ...tokens, ...builtIns(now), ...absent, ...variables };
        for (const [name, value] of Object.entries(globals)) environment.set(name, value);
        const text: unknown = new BoundedInterpreter(environment).run(program).value;
        if (typeof text !== 'string') throw new Error('its result is not a string');
        if (/\p{Surrogate}/u.test(text)) throw new Error('it split a character in the middle');
        return text;
      } catch (cause) {
        throw failed(cause);
      }
    },
  };
}

/** Jinja's interpreter with limits: a template can contain loops and recursion that never end. */
class BoundedInterpreter extends Interpreter {
  #steps = 0;
  readonly #weights = new TemplateValueWeights();

  override evaluate(statement: unknown, environment: JinjaEnvironment): JinjaValue {
    this.#steps++;
    if (this.#steps > MAX_STEPS) throw new Error(`it did not end within ${MAX_STEPS} steps.`);
    const stripped = isStripCall(statement)
      ? stripCharacters(statement, (expression) => this.evaluate(expression, environment))
      : null;
    const result = stripped ?? super.evaluate(statement, environment);
    const { weight, isNew } = this.#weights.of(result);
    if (weight > MAX_OUTPUT_CHARACTERS) {
      throw new Error(`it created a text, list or object of more than ${MAX_OUTPUT_CHARACTERS} characters.`);
    }
    if (isNew) this.#steps += weight / CHARACTERS_PER_STEP;
    return result;
  }
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
