import { createHash } from 'node:crypto';
import type { Tool } from '@lorasmith/contracts';
import type { TemplateMessage } from './conversation.js';

/** The abilities of a chat template with tools, found by rendering a conversation with them. */
export interface ToolSupport {
  /** Whether it writes the list of tools. */
  tools: boolean;
  /** The form in which it writes calls; null if it writes none. */
  calls: CallForm | null;
}

/** How a template wants messages with calls. */
export interface CallForm {
  /** `object` is the convention of transformers. Older templates print the text of the OpenAI API. */
  arguments: 'object' | 'text';
  /** The content of a message without content. */
  emptyContent: '' | null;
  /** Templates of Mistral take ids of nine letters and digits alone. */
  ids: 'as-given' | 'nine-characters';
}

const FORMS: readonly CallForm[] = (['as-given', 'nine-characters'] as const).flatMap((ids) =>
  (['', null] as const).flatMap((emptyContent) =>
    (['object', 'text'] as const).map((form) => ({ arguments: form, emptyContent, ids })),
  ),
);

const PROBE = { tool: 'probe_listed', call: 'probe_called', key: 'probe_key', value: 'probe value' };
const TOOL: Tool = {
  type: 'function',
  function: {
    name: PROBE.tool,
    description: 'A probe.',
    parameters: { type: 'object', properties: { x: { type: 'string', description: 'Any.' } }, required: ['x'] },
  },
};
const CALL_ID = 'call_0123456789';
const ASKED: TemplateMessage = { role: 'user', content: 'Hello' };
const CALLING: readonly TemplateMessage[] = [
  ASKED,
  {
    role: 'assistant',
    content: '',
    tool_calls: [
      { id: CALL_ID, type: 'function', function: { name: PROBE.call, arguments: { [PROBE.key]: PROBE.value } } },
    ],
  },
  { role: 'tool', content: 'probe result', name: PROBE.call, tool_call_id: CALL_ID },
];

/** The call of the probe. */
export const CALLING_PROBE = { name: PROBE.call, arguments: { [PROBE.key]: PROBE.value } };
/** A question, and the assistant's turn that calls a tool. */
export const CALLING_TURN = CALLING.slice(0, 2);
export const PROBE_TOOLS: readonly Tool[] = [TOOL];

/** Renders messages in their form; throws if the template does. */
export type RenderForm = (messages: readonly object[], tools: readonly Tool[] | null) => string;

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
  const tools = writes([PROBE.tool], [ASKED], [TOOL]);
  const isWritten = (form: CallForm) =>
    writes([PROBE.call, PROBE.key, PROBE.value], inForm(CALLING, form), tools ? [TOOL] : null);
  return { tools, calls: FORMS.find(isWritten) ?? null };
}

/** Messages as a template wants them. Those without calls, and answers to none, stay as they are. */
export function inForm(messages: readonly TemplateMessage[], form: CallForm): object[] {
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
