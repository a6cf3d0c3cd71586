import { type ChatMessage, callArguments, type Tool, type ToolCall, textOfMessage, toolCallsOf } from './message.js';

/** Something wrong with a conversation, and where. */
export interface ConversationFault {
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
