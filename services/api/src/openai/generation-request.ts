import { randomInt } from 'node:crypto';
import {
  type ChatCompletionRequest,
  type CompletionRequest,
  conversationFaults,
  type GenerationRequest,
  MAX_CHOICES,
  ProductError,
  type Tool,
} from '@lorasmith/contracts';
import { checkSchema, GrammarTooLargeError, placeInCall, SchemaError, schemaOfCall } from '@lorasmith/json-grammar';
import type { NamedModel } from './model-directory.js';

/** The default of the OpenAI API. */
const DEFAULT_COMPLETION_TOKENS = 16;
/** The bound of a random seed, exclusive: `randomInt` draws 48 bits at most. */
const SEEDS = 2 ** 48 - 1;

export interface GenerationLimits {
  /** Tokens of an answer. */
  maxTokens: number;
}

/** The request of a chat. @throws ProductError `invalid_request` for fields that contradict each other or exceed a limit */
export function requestOfChat(
  body: ChatCompletionRequest,
  model: NamedModel,
  limits: GenerationLimits,
): GenerationRequest {
  const { logprobs = false, top_logprobs: top } = body;
  if (!logprobs && top) throw conflict('top_logprobs', 'top_logprobs needs logprobs: true.');
  const [asked, name] =
    body.max_completion_tokens == null
      ? [body.max_tokens, 'max_tokens']
      : [body.max_completion_tokens, 'max_completion_tokens'];
  const { messages } = body;
  const [fault] = conversationFaults(messages, { tools: body.tools });
  if (fault !== undefined) throw conflict(fault.param, fault.message);
  return {
    ...model,
    ...samplingOf(body),
    input: { kind: 'chat', messages, ...toolsOf(body) },
    schema: schemaOfFormat(body),
    max_tokens: withinLimit(asked ?? limits.maxTokens, name, limits),
    logprobs: logprobs ? (top ?? 0) : null,
  };
}

/** The request of a completion. @throws ProductError as {@link requestOfChat} */
export function requestOfCompletion(
  body: CompletionRequest,
  model: NamedModel,
  limits: GenerationLimits,
): GenerationRequest {
  const prompts = promptsOf(body.prompt);
  const echo = body.echo ?? false;
  const maxTokens = body.max_tokens ?? DEFAULT_COMPLETION_TOKENS;
  if (maxTokens === 0 && !echo) throw conflict('max_tokens', 'max_tokens: 0 needs echo: true, or there is no answer.');
  const sampling = samplingOf(body);
  if (prompts.length * sampling.n > MAX_CHOICES) {
    throw conflict('n', `A request may have ${MAX_CHOICES} answers, which are its prompts times n.`);
  }
  return {
    ...model,
    ...sampling,
    input: { kind: 'text', prompts, echo },
    schema: null,
    max_tokens: withinLimit(maxTokens, 'max_tokens', limits),
    logprobs: body.logprobs ?? null,
  };
}

/** The schema that `response_format` asks for; null for any text. @throws ProductError `invalid_request` for what is not supported */
function schemaOfFormat({ response_format: format, tools, tool_choice: choice }: ChatCompletionRequest): unknown {
  if (format == null || format.type === 'text') return null;
  if (tools != null && tools.length > 0 && choice !== 'none') {
    const message = `${format.type} with tools is not supported: the answer would be JSON, and never a call. Send tool_choice: "none", or no response_format.`;
    throw conflict('response_format', message);
  }
  if (format.type === 'json_object') return ANY_OBJECT;
  if (format.json_schema?.schema === undefined) {
    throw conflict('response_format.json_schema.schema', 'json_schema needs a schema.');
  }
  refuseUnsupported(format.json_schema.schema, (path) => at('response_format.json_schema.schema', path));
  return format.json_schema.schema;
}

const ANY_OBJECT = { type: 'object' };

/** @param paramOf - Where a path of the schema is in the request; '' is the schema itself. */
function refuseUnsupported(schema: unknown, paramOf: (path: string) => string): void {
  try {
    checkSchema(schema);
  } catch (error) {
    if (error instanceof SchemaError) throw conflict(paramOf(error.path), error.message);
    if (error instanceof GrammarTooLargeError) throw conflict(paramOf(''), error.message);
    throw error;
  }
}

/** Checks the parameters of all tools of which one must be called together: each alone would be allowed to take as long. */
function refuseUnsupportedCall(tools: readonly Tool[], chosen: readonly string[]): void {
  const callable = tools.filter((tool) => chosen.includes(tool.function.name));
  const schema = schemaOfCall(
    callable.map((tool) => tool.function),
    ARGUMENTS,
  );
  refuseUnsupported(schema, (path) => {
    const found = placeInCall(path, ARGUMENTS);
    return found === null
      ? 'tools'
      : at(`tools.${tools.indexOf(callable[found.index]!)}.function.parameters`, found.path);
  });
}

/** The key of the arguments, whatever that of the model is. */
const ARGUMENTS = 'arguments';

function at(param: string, path: string): string {
  return path === '' ? param : `${param}.${path}`;
}

/** @throws ProductError `invalid_request` for a choice that cannot be made */
function toolsOf({ tools: given, tool_choice: choice, parallel_tool_calls: parallel }: ChatCompletionRequest) {
  const tools = given != null && given.length > 0 && choice !== 'none' ? given : null;
  const free = { tools, must_call: null, one_call: parallel === false };
  if (choice == null || choice === 'auto' || choice === 'none') return free;
  if (tools === null) throw conflict('tool_choice', 'tool_choice needs tools.');
  const names = tools.map((tool) => tool.function.name);
  const chosen = choice === 'required' ? names : chosenNames(choice, names);
  const allowed = isAllowedTools(choice) ? tools.filter((tool) => chosen.includes(tool.function.name)) : tools;
  if (isAllowedTools(choice) && choice.allowed_tools.mode === 'auto') return { ...free, tools: allowed };
  refuseUnsupportedCall(tools, chosen);
  return { tools: allowed, must_call: chosen, one_call: true };
}

type ToolChoice = Extract<ChatCompletionRequest['tool_choice'], object>;
type AllowedTools = Extract<ToolChoice, { type: 'allowed_tools' }>;

function isAllowedTools(choice: ToolChoice | string): choice is AllowedTools {
  return typeof choice === 'object' && choice.type === 'allowed_tools';
}

/** The names that a choice has. @throws ProductError `invalid_request` for one that no tool has */
function chosenNames(choice: ToolChoice, names: readonly string[]): string[] {
  const chosen = isAllowedTools(choice) ? choice.allowed_tools.tools : [choice];
  for (const [
    index,
    {
      function: { name },
    },
  ] of chosen.entries()) {
    if (names.includes(name)) continue;
    const prefix = isAllowedTools(choice) ? `allowed_tools.tools.${index}.` : '';
    throw conflict(`tool_choice.${prefix}function.name`, `There is no tool ${JSON.stringify(name)}.`);
  }
  return [...new Set(chosen.map((one) => one.function.name))];
}

function samplingOf(body: ChatCompletionRequest | CompletionRequest) {
  const { stop, stream, stream_options: streamOptions } = body;
  if (streamOptions != null && !stream) throw conflict('stream_options', 'stream_options needs stream: true.');
  return {
    temperature: body.temperature ?? 1,
    top_p: body.top_p ?? 1,
    top_k: Math.max(0, body.top_k ?? 0),
    min_p: body.min_p ?? 0,
    presence_penalty: body.presence_penalty ?? 0,
    frequency_penalty: body.frequency_penalty ?? 0,
    repetition_penalty: body.repetition_penalty ?? 1,
    n: body.n ?? 1,
    seed: body.seed ?? randomInt(SEEDS),
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
  };
}

function promptsOf(prompt: CompletionRequest['prompt']): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt];
  return isTokenIds(prompt) ? [prompt] : prompt;
}

function isTokenIds(prompt: string[] | number[] | number[][]): prompt is number[] {
  return typeof prompt[0] === 'number';
}

function withinLimit(tokens: number, name: string, { maxTokens }: GenerationLimits): number {
  if (tokens <= maxTokens) return tokens;
  throw conflict(name, `${name} must be <= ${maxTokens}, the limit of this service.`);
}

function conflict(param: string, message: string): ProductError {
  return new ProductError('invalid_request', message, { param });
}
