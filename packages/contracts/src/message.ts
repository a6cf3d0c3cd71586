import { type Static, Type } from 'typebox';
import { closed, Nullable } from './schema-parts.js';

export const MessageRole = Type.Enum(['system', 'user', 'assistant', 'tool']);
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
export const ToolCall = Type.Object(
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
export type ToolCall = Static<typeof ToolCall>;

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
