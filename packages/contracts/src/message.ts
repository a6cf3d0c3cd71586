import { type Static, Type } from 'typebox';

export const MessageRole = Type.Enum(['system', 'user', 'assistant', 'tool']);
/** A turn of a conversation. */
export const Message = Type.Object({ role: MessageRole, content: Type.String() }, { additionalProperties: false });
export type Message = Static<typeof Message>;
