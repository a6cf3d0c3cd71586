import { createHash } from 'node:crypto';
import {
  type ChatMessage,
  callArguments,
  type Message,
  type Tool,
  textOfMessage,
  toolCallsOf,
} from '@lorasmith/contracts';
import { parseWithWholeFloats } from './python-values.js';

// Messages as templates read them: the convention of transformers, and the forms in which some templates want contents, reasoning and
// calls of tools instead. A form is found by rendering probes.

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

/** A part of a message's content, in the form that templates of models that see images take. */
interface ContentPart {
  type: 'text';
  text: string;
}

const CONTENT_PROBE = 'probe content';

/** True if a template writes contents that are lists of parts, and none that are texts. */
export function wantsParts(render: (messages: readonly object[]) => string): boolean {
  const writes = (content: string | ContentPart[]) => {
    try {
      return render([{ role: 'user', content }]).includes(CONTENT_PROBE);
    } catch {
      return false;
    }
  };
  return !writes(CONTENT_PROBE) && writes([{ type: 'text', text: CONTENT_PROBE }]);
}

/** The messages with their contents as lists of parts. */
export function withParts(messages: readonly object[]): object[] {
  return messages.map((message) => {
    const { content } = message as { content: unknown };
    return typeof content === 'string' ? { ...message, content: [{ type: 'text', text: content }] } : message;
  });
}

/** Renders messages in their form; throws if the template does. */
type RenderForm = (messages: readonly object[], tools: readonly Tool[] | null) => string;

/** The names under which templates look for the reasoning of a message: those of Qwen and DeepSeek, gpt-oss, and Gemma. */
export const REASONING_NAMES = ['reasoning_content', 'thinking', 'reasoning'] as const;
export type ReasoningName = (typeof REASONING_NAMES)[number];
/** The form in which a template wants reasoning: under a name, or as a part of the content before its text, as Ministral 3. */
export type ReasoningForm = ReasoningName | 'part';

const REASONING_FORMS: readonly ReasoningForm[] = [...REASONING_NAMES, 'part'];
const REASONING_PROBE = 'probe reasoning';

/**
 * The form in which a template writes the reasoning of an answer, or of a call of a tool alone; null if it writes none.
 * @param calls the form in which it writes calls; null if it writes none
 */
export function findReasoningForm(render: RenderForm, calls: CallForm | null): ReasoningForm | null {
  const [asked, calling] = CALLING_TURN;
  const turns: TemplateMessage[] = [{ role: 'assistant', content: 'probe answer' }];
  if (calls !== null) turns.push(calling!);
  const isWritten = (form: ReasoningForm) =>
    turns.some((turn) => {
      const [thought] = withReasoning([{ ...turn, reasoning_content: REASONING_PROBE }], form);
      try {
        const text = render([asked!, ...(calls === null ? [thought!] : withCalls([thought!], calls))], null);
        // A template that takes no parts may print their fields.
        return text.includes(REASONING_PROBE) && !/["']thinking["']/.test(text);
      } catch {
        return false;
      }
    });
  return REASONING_FORMS.find(isWritten) ?? null;
}

/** The messages with their reasoning in this form. */
export function withReasoning(messages: readonly TemplateMessage[], form: ReasoningForm): readonly TemplateMessage[] {
  if (form === 'reasoning_content') return messages;
  return messages.map((message) => {
    const { reasoning_content: reasoning, ...others } = message;
    if (reasoning === undefined) return message;
    // A message of templates alone, whose fields they decide.
    return {
      ...others,
      ...(form === 'part' ? { content: thoughtParts(reasoning, message.content) } : { [form]: reasoning }),
    } as TemplateMessage;
  });
}

function thoughtParts(thinking: string, text: string): object[] {
  return [{ type: 'thinking', thinking }, ...(text === '' ? [] : [{ type: 'text', text }])];
}

/** The abilities of a chat template with tools, found by rendering a conversation with them. */
export interface ToolSupport {
  /** True if it writes the list of tools. */
  tools: boolean;
  /** The form in which it writes calls; null if it writes none. */
  calls: CallForm | null;
}

/** The form in which a template wants messages with calls. */
export interface CallForm {
  /** `object` is the convention of transformers. Older templates print the text of the OpenAI API. */
  arguments: 'object' | 'text';
  /** The content of a message without content. */
  emptyContent: '' | null;
  /** Templates of Mistral take ids of nine letters and digits alone. */
  ids: 'as-given' | 'nine-characters';
}

const CALL_FORMS: readonly CallForm[] = (['as-given', 'nine-characters'] as const).flatMap((ids) =>
  (['', null] as const).flatMap((emptyContent) =>
    (['object', 'text'] as const).map((form) => ({ arguments: form, emptyContent, ids })),
  ),
);

const PROBE_TOOL: Tool = {
  type: 'function',
  function: {
    name: 'probe_listed',
    description: 'A probe.',
    parameters: { type: 'object', properties: { x: { type: 'string', description: 'Any.' } }, required: ['x'] },
  },
};
const CALL_ID = 'call_0123456789';
const ASKED: TemplateMessage = { role: 'user', content: 'Hello' };

/** The call of the probe. */
export const CALLING_PROBE = { name: 'probe_called', arguments: { probe_key: 'probe value' } };
const CALLING: readonly TemplateMessage[] = [
  ASKED,
  {
    role: 'assistant',
    content: '',
    tool_calls: [{ id: CALL_ID, type: 'function', function: CALLING_PROBE }],
  },
  { role: 'tool', content: 'probe result', name: CALLING_PROBE.name, tool_call_id: CALL_ID },
];

/** A question, and the assistant's turn that calls a tool. */
export const CALLING_TURN = CALLING.slice(0, 2);
export const PROBE_TOOLS: readonly Tool[] = [PROBE_TOOL];

/** Finds out what a template can write of tools. */
export function findToolSupport(render: RenderForm): ToolSupport {
  const writes = (texts: readonly string[], messages: readonly object[], tools: readonly Tool[] | null) => {
    try {
      const text = render(messages, tools);
      return texts.every((part) => text.includes(part));
    } catch {
      return false;
    }
  };
  const tools = writes([PROBE_TOOL.function.name], [ASKED], PROBE_TOOLS);
  const called = [CALLING_PROBE.name, ...Object.entries(CALLING_PROBE.arguments).flat()];
  const isWritten = (form: CallForm) => writes(called, withCalls(CALLING, form), tools ? PROBE_TOOLS : null);
  return { tools, calls: CALL_FORMS.find(isWritten) ?? null };
}

/** The messages with their calls, and the answers to these, in this form. Others stay as they are. */
export function withCalls(messages: readonly TemplateMessage[], form: CallForm): object[] {
  return messages.map((message) => {
    const { tool_calls: calls, tool_call_id: callId } = message;
    const ofAnswer = callId === undefined ? {} : { tool_call_id: idOf(callId, form) };
    if (calls === undefined) return { ...message, ...ofAnswer };
    return {
      ...message,
      content: message.content === '' ? form.emptyContent : message.content,
      tool_calls: calls.map(({ id, function: { name, arguments: values }, ...call }) => ({
        ...(id === undefined ? {} : { id: idOf(id, form) }),
        ...call,
        function: { name, arguments: form.arguments === 'text' ? JSON.stringify(values) : values },
      })),
      ...ofAnswer,
    };
  });
}

function idOf(id: string, { ids }: CallForm): string {
  if (ids === 'as-given' || /^[A-Za-z0-9]{9}$/.test(id)) return id;
  return createHash('sha256').update(id).digest('hex').slice(0, 9);
}
