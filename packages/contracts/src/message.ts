import { type Static, Type } from 'typebox';
import { closed, Nullable } from './schema-parts.js';

const MessageRole = Type.Enum(['system', 'user', 'assistant', 'tool']);
/** A turn of a conversation, as text. */
export const Message = Type.Object({ role: MessageRole, content: Type.String() }, closed);
export type Message = Static<typeof Message>;

// Conversations with tools, as the OpenAI API has them.

const MAX_PARTS = 100;
/** The most tools of a row or a chat. */
export const MAX_TOOLS = 128;
/** Limits, for docs/limits.md. */
export const messageLimits = {
  tools: { value: MAX_TOOLS, unit: 'tools', beyond: '422 `invalid_dataset`, 400 `invalid_request`' },
  parts: { value: MAX_PARTS, unit: 'parts', beyond: '422 `invalid_dataset`, 400 `invalid_request`' },
};
const MAX_NAME = 256;
const Name = Type.String({ minLength: 1, maxLength: MAX_NAME });
const anyObject = (description: string) => Type.Object({}, { additionalProperties: true, description });

const TextPart = Type.Object({ type: Type.Literal('text'), text: Type.String() }, closed);

/** A function that the model may call. */
export const Tool = Type.Object(
  {
    type: Type.Literal('function'),
    function: Type.Object(
      {
        name: Name,
        description: Type.Optional(Type.String()),
        parameters: Type.Optional(anyObject('A JSON schema of the arguments.')),
        strict: Type.Optional(Nullable(Type.Boolean())),
        return: Type.Optional(anyObject("As transformers' get_json_schema writes it.")),
      },
      closed,
    ),
  },
  { $id: 'Tool', ...closed },
);
export type Tool = Static<typeof Tool>;

export const Tools = Type.Array(Tool, { maxItems: MAX_TOOLS });

/** A call of a function, by the assistant. */
const ToolCall = Type.Object(
  {
    id: Type.Optional(Name),
    type: Type.Optional(Type.Literal('function')),
    function: Type.Object(
      {
        name: Name,
        arguments: Type.Union([Type.String(), anyObject('The same, not as text.')], {
          description: 'A JSON object as text, as the OpenAI API has it; an object is taken, too.',
        }),
      },
      closed,
    ),
  },
  { $id: 'ToolCall', ...closed },
);
type ToolCall = Static<typeof ToolCall>;

const absent = (what: string) => Type.Optional(Type.Null({ description: `${what} are not supported: only null.` }));

export const chatMessageFields = {
  role: Type.Enum(['system', 'developer', 'user', 'assistant', 'tool'], {
    description: '`developer` is another name of `system`.',
  }),
  content: Type.Optional(
    Type.Union([Type.String(), Type.Array(TextPart, { maxItems: MAX_PARTS }), Type.Null()], {
      description:
        'Text, or parts of text, which are joined. Null or left out only in an assistant message with tool_calls.',
    }),
  ),
  reasoning_content: Type.Optional(
    Nullable(Type.String(), {
      description:
        'What the assistant thought before its content or its calls. Only in an assistant message, and where the chat template of the ' +
        'base model writes it.',
    }),
  ),
  name: Type.Optional(Nullable(Name, { description: 'Of the one who speaks, or of the tool.' })),
  tool_calls: Type.Optional(
    Nullable(Type.Array(ToolCall, { maxItems: MAX_TOOLS }), { description: 'Only in an assistant message.' }),
  ),
  tool_call_id: Type.Optional(Nullable(Name, { description: 'Only in a tool message: the call that it answers.' })),
  refusal: absent('Refusals'),
  audio: absent('Audio answers'),
  function_call: absent('Calls in the older form'),
};

/** A turn of a conversation that may use tools. */
export const ChatMessage = Type.Object(chatMessageFields, { $id: 'ChatMessage', ...closed });
export type ChatMessage = Static<typeof ChatMessage>;

/** The text of a message; '' if it has none. */
export function textOfMessage({ content }: Pick<ChatMessage, 'content'>): string {
  if (typeof content === 'string') return content;
  return content?.map(({ text }) => text).join('') ?? '';
}

/** The calls of a message, an empty list if it has none. */
export function toolCallsOf({ tool_calls: calls }: Pick<ChatMessage, 'tool_calls'>): readonly ToolCall[] {
  return calls ?? [];
}

/**
 * The arguments of a call as an object; null if they are not one. An empty text stands for no arguments.
 * @param parse - Reads those that are written as text.
 */
export function callArguments(
  { function: { arguments: given } }: ToolCall,
  parse: (json: string) => unknown = JSON.parse,
): Record<string, unknown> | null {
  if (typeof given !== 'string') return given as Record<string, unknown>;
  if (given.trim() === '') return {};
  try {
    const parsed = parse(given);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
      ? (parsed as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

/** Something wrong with a conversation, and where. */
interface ConversationFault {
  message: string;
  param: string;
}

/** More add nothing about one conversation. */
const MAX_FAULTS = 8;
/** The deepest nesting of arguments, which templates print recursively. */
const MAX_DEPTH = 32;

/**
 * The rules of a conversation that a schema cannot say: which role may have which field, that calls have arguments, and that answers
 * belong to calls.
 */
export function conversationFaults(
  messages: readonly ChatMessage[],
  { tools, parallelToolCalls }: { tools?: readonly Tool[] | null | undefined; parallelToolCalls?: boolean | undefined },
): ConversationFault[] {
  const faults: ConversationFault[] = [];
  const calls = new Set<string>();
  for (const [index, message] of messages.entries()) {
    const at = `messages.${index}`;
    const own = messageFaults(message, at, calls);
    const count = toolCallsOf(message).length;
    if (parallelToolCalls === false && count > 1) {
      const text = `The message has ${count} calls, but parallel_tool_calls is false.`;
      own.push({ message: text, param: `${at}.tool_calls` });
    }
    faults.push(...own);
    if (faults.length >= MAX_FAULTS) break;
  }
  const names = tools?.map((tool) => tool.function.name) ?? [];
  const twice = names.findIndex((name, index) => names.indexOf(name) < index);
  if (twice >= 0) {
    const message = `There are two tools named ${JSON.stringify(names[twice])}.`;
    faults.push({ message, param: `tools.${twice}.function.name` });
  }
  const number = tools == null ? null : inexactNumber(tools);
  if (number !== null) faults.push({ message: number, param: 'tools' });
  return faults.slice(0, MAX_FAULTS);
}

/** @param calls ids of the calls so far; gets those of this message */
function messageFaults(message: ChatMessage, at: string, calls: Set<string>): ConversationFault[] {
  const { role } = message;
  const faults: ConversationFault[] = [];
  const add = (text: string, field: string) => faults.push({ message: text, param: `${at}.${field}` });
  const toolCalls = toolCallsOf(message);
  if (role !== 'assistant' && toolCalls.length > 0) add('Only an assistant message has tool_calls.', 'tool_calls');
  if (role !== 'assistant' && message.reasoning_content != null) {
    add('Only an assistant message has reasoning_content.', 'reasoning_content');
  }
  if (role !== 'tool' && message.tool_call_id != null) add('Only a tool message has tool_call_id.', 'tool_call_id');
  if (message.content == null && !(role === 'assistant' && toolCalls.length > 0)) {
    const why = role === 'assistant' ? ' An assistant message without tool_calls needs one.' : '';
    add(`The content is missing.${why}`, 'content');
  }
  for (const [index, call] of toolCalls.entries()) {
    const fault = callFault(call);
    if (fault !== null) add(fault, `tool_calls.${index}.function.arguments`);
    if (call.id !== undefined) calls.add(call.id);
  }
  const answered = message.tool_call_id;
  if (role === 'tool' && answered != null && !calls.has(answered)) {
    add('No message before this one has a call with this id.', 'tool_call_id');
  }
  return faults;
}

function callFault(call: ToolCall): string | null {
  const values = callArguments(call);
  if (values === null) return 'The arguments are not a JSON object.';
  return inexactNumber(values);
}

/** Numbers beyond 2^53 would become other ones. */
function inexactNumber(value: unknown, depth = 0): string | null {
  if (depth > MAX_DEPTH) return `It is nested deeper than ${MAX_DEPTH} levels.`;
  if (typeof value === 'number') {
    const isExact = Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value));
    return isExact ? null : 'It has a number beyond 2^53, which cannot be kept exactly. Write it as a text.';
  }
  if (typeof value !== 'object' || value === null) return null;
  for (const part of Object.values(value)) {
    const found = inexactNumber(part, depth + 1);
    if (found !== null) return found;
  }
  return null;
}

/** Every text of a conversation, with its path. Names and texts of tools count. */
export function textsOfConversation(
  messages: readonly ChatMessage[],
  tools?: readonly Tool[] | null,
): [param: string, text: string][] {
  const texts: [string, string][] = [];
  const addStrings = (value: unknown, param: string) => {
    if (typeof value === 'string') texts.push([param, value]);
    else if (typeof value === 'object' && value !== null) {
      for (const [key, part] of Object.entries(value)) {
        texts.push([param, key]);
        addStrings(part, param);
      }
    }
  };
  for (const [index, message] of messages.entries()) {
    texts.push([`messages.${index}.content`, textOfMessage(message)]);
    if (message.reasoning_content != null)
      texts.push([`messages.${index}.reasoning_content`, message.reasoning_content]);
    if (message.name != null) texts.push([`messages.${index}.name`, message.name]);
    for (const [number, call] of toolCallsOf(message).entries()) {
      const at = `messages.${index}.tool_calls.${number}.function`;
      texts.push([`${at}.name`, call.function.name]);
      addStrings(callArguments(call) ?? {}, `${at}.arguments`);
    }
  }
  for (const [index, tool] of (tools ?? []).entries()) addStrings(tool.function, `tools.${index}.function`);
  return texts;
}

const NOT_TEXT: Readonly<Record<string, string>> = {
  image_url: 'Images',
  input_image: 'Images',
  input_audio: 'Audio parts',
  audio: 'Audio parts',
  video_url: 'Videos',
  file: 'Files',
  refusal: 'Refusals',
};

const OLDER_FORM = 'This is the older form of tools: send "tools", "tool_calls" and the role "tool" instead.';

/** The parts that the OpenAI API takes and this service does not, by name. */
export function unsupportedParts(row: unknown): ConversationFault[] {
  const faults: ConversationFault[] = [];
  const { messages, functions, function_call: call } = objectOf(row);
  if (functions !== undefined) faults.push({ message: OLDER_FORM, param: 'functions' });
  if (call !== undefined) faults.push({ message: OLDER_FORM, param: 'function_call' });
  for (const [index, value] of listOf(messages).entries()) {
    if (faults.length >= MAX_FAULTS) break;
    const message = objectOf(value);
    const at = `messages.${index}`;
    if (message.function_call != null) faults.push({ message: OLDER_FORM, param: `${at}.function_call` });
    if (message.role === 'function') faults.push({ message: OLDER_FORM, param: `${at}.role` });
    if (message.refusal != null) faults.push({ message: 'Refusals are not supported.', param: `${at}.refusal` });
    if (message.audio != null) faults.push({ message: 'Audio is not supported.', param: `${at}.audio` });
    for (const [number, part] of listOf(message.content).entries()) {
      const { type } = objectOf(part);
      const what = typeof type === 'string' && Object.hasOwn(NOT_TEXT, type) ? NOT_TEXT[type] : undefined;
      if (what === undefined) continue;
      faults.push({ message: `${what} are not supported: only parts of text.`, param: `${at}.content.${number}` });
      break;
    }
  }
  return faults.slice(0, MAX_FAULTS);
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
