import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { isMissing, isObject, type JsonObject, modelFileLabel, unreadable } from '../config/json-file.js';
import { corruptTokenizerFile, namedTokensOf, readTokenizerConfig } from '../tokenizer/tokenizer-files.js';
import { type CallSyntax, callSyntaxOf, writtenTurn } from './call-syntax.js';
import {
  CALLING_TURN,
  findReasoningForm,
  findToolSupport,
  PROBE_TOOLS,
  type ReasoningForm,
  type TemplateMessage,
  type ToolSupport,
  withCalls,
  withReasoning,
} from './template-messages.js';
import {
  type MarkedText,
  markedParts,
  type RenderOptions,
  TemplateRenderer,
  withPrintedMarks,
} from './template-renderer.js';

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
  /** The syntax in which the model writes calls of tools; null if the template writes none, or in another way than those that are known. */
  callSyntax(): CallSyntax | null;
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
export function compileChatTemplate(source: string, options: CompileOptions): ChatTemplate {
  return new CompiledTemplate(source, options);
}

/** A template with what it was found to write of tools and reasoning, each looked for when it is first needed. */
class CompiledTemplate implements ChatTemplate {
  readonly #model: string;
  readonly #renderer: TemplateRenderer;
  /** Prints the marks of `{% generation %}`; null for a template without them. */
  readonly #marking: TemplateRenderer | null;
  #tools: ToolSupport | null = null;
  #reasoning: { form: ReasoningForm | null } | null = null;
  #syntax: { found: CallSyntax | null } | null = null;

  /** @throws ProductError `chat_template_failed` for an invalid template */
  constructor(source: string, { tokens, model, now }: CompileOptions) {
    this.#model = model;
    const marked = withPrintedMarks(source);
    try {
      this.#renderer = new TemplateRenderer(source, tokens, now);
      this.#marking = marked === null ? null : new TemplateRenderer(marked, tokens, now);
    } catch (cause) {
      throw this.#failure(cause);
    }
  }

  render(messages: readonly TemplateMessage[], options: RenderOptions): string {
    return this.#render(this.#renderer, messages, options);
  }

  renderMarked(messages: readonly TemplateMessage[], options: RenderOptions): MarkedText[] | null {
    return this.#marking === null ? null : markedParts(this.#render(this.#marking, messages, options));
  }

  callSyntax(): CallSyntax | null {
    this.#syntax ??= { found: this.#findSyntax() };
    return this.#syntax.found;
  }

  #render(renderer: TemplateRenderer, given: readonly TemplateMessage[], options: RenderOptions): string {
    const messages = this.#inReasoningForm(given);
    const caller = messages.findIndex((message) => message.tool_calls !== undefined);
    if (options.tools != null && !this.#toolSupport().tools) throw this.#noToolSupport('tools', 'tools');
    const form = options.tools != null || caller >= 0 ? this.#toolSupport().calls : null;
    if (caller >= 0 && form === null) throw this.#noToolSupport('calls of tools', `messages.${caller}.tool_calls`);
    try {
      return renderer.render(form === null ? messages : withCalls(messages, form), options);
    } catch (cause) {
      throw this.#failure(cause);
    }
  }

  #toolSupport(): ToolSupport {
    this.#tools ??= findToolSupport((messages, tools) =>
      this.#renderer.render(messages, { addGenerationPrompt: true, tools }),
    );
    return this.#tools;
  }

  #inReasoningForm(messages: readonly TemplateMessage[]): readonly TemplateMessage[] {
    const index = messages.findIndex((message) => message.reasoning_content !== undefined);
    if (index < 0) return messages;
    this.#reasoning ??= {
      form: findReasoningForm(
        (probes, tools) => this.#renderer.render(probes, { addGenerationPrompt: false, tools }),
        this.#toolSupport().calls,
      ),
    };
    const { form } = this.#reasoning;
    if (form === null) throw this.#noReasoning(`messages.${index}.reasoning_content`);
    return withReasoning(messages, form);
  }

  #findSyntax(): CallSyntax | null {
    const { tools: writesTools, calls } = this.#toolSupport();
    if (calls === null) return null;
    const tools = writesTools ? PROBE_TOOLS : null;
    const written = writtenTurn(
      (messages, addGenerationPrompt) => this.#renderer.render(messages, { addGenerationPrompt, tools }),
      withCalls(CALLING_TURN, calls),
    );
    return written === null ? null : callSyntaxOf(written);
  }

  #failure(cause: unknown): ProductError {
    const what = cause instanceof Error ? cause.message : String(cause);
    const message = `The chat template of the base model "${this.#model}" failed: ${what.slice(0, 500)}`;
    return new ProductError('chat_template_failed', message, { cause });
  }

  #noToolSupport(what: string, param: string): ProductError {
    const message =
      `The chat template of the base model "${this.#model}" writes no ${what}, so the model would never see them. Use a model whose ` +
      'template has tools, or put a template with tools into its folder.';
    return new ProductError('chat_template_failed', message, { param });
  }

  #noReasoning(param: string): ProductError {
    const message =
      `The chat template of the base model "${this.#model}" writes no reasoning_content, so the model would never see it. Leave it out, or ` +
      'write it into the content as this model writes its reasoning, for instance between <think> and </think>.';
    return new ProductError('chat_template_failed', message, { param });
  }
}
