import {
  type ChatMessage,
  callArguments,
  type Message,
  type Tool,
  textOfMessage,
  toolCallsOf,
} from '@lorasmith/contracts';
import { parseWithWholeFloats } from './whole-floats.js';

/** A conversation in the form in which transformers gives it to chat templates. */
export interface TemplateConversation {
  messages: readonly TemplateMessage[];
  /** null: none. */
  tools: readonly Tool[] | null;
}

/** A message as templates read it. A field that it has not is absent, because some templates ask whether it is there. */
export interface TemplateMessage extends Message {
  /** Thoughts of the assistant before its content and calls; not empty. */
  reasoning_content?: string;
  name?: string;
  tool_calls?: readonly TemplateToolCall[];
  tool_call_id?: string;
}

export interface TemplateToolCall {
  id?: string;
  type: 'function';
  /** The arguments are an object, not its JSON. */
  function: { name: string; arguments: Record<string, unknown> };
}

/** The conversation of a request or a row, whose faults were looked for. */
export function conversationOf({
  messages,
  tools,
}: {
  messages: readonly ChatMessage[];
  tools?: readonly Tool[] | null | undefined;
}): TemplateConversation {
  const hasTools = tools != null && tools.length > 0;
  return { messages: messages.map(templateMessage), tools: hasTools ? tools : null };
}

function templateMessage(message: ChatMessage): TemplateMessage {
  const { role, name, tool_call_id: callId, reasoning_content: reasoning } = message;
  const calls = toolCallsOf(message).map((call): TemplateToolCall => {
    const { id, function: called } = call;
    const values = callArguments(call, parseWithWholeFloats);
    if (values === null) throw new Error('the arguments of a call are not an object');
    return {
      ...(id === undefined ? {} : { id }),
      type: 'function',
      function: { name: called.name, arguments: values },
    };
  });
  return {
    role: role === 'developer' ? 'system' : role,
    content: textOfMessage(message),
    ...(reasoning == null || reasoning === '' ? {} : { reasoning_content: reasoning }),
    ...(name == null ? {} : { name }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
    ...(callId == null ? {} : { tool_call_id: callId }),
  };
}
