import type { TemplateMessage } from './conversation.js';
import { CALLING_TURN, type CallForm, inForm, type RenderForm } from './tool-form.js';

/** The names under which templates look for the reasoning of a message: those of Qwen and DeepSeek, gpt-oss, and Gemma. */
export const REASONING_NAMES = ['reasoning_content', 'thinking', 'reasoning'] as const;
export type ReasoningName = (typeof REASONING_NAMES)[number];

const PROBE = 'probe reasoning';

/**
 * The name under which a template writes the reasoning of an answer, or of a call of a tool alone; null if it writes none.
 * @param calls the form in which it writes calls; null if it writes none
 */
export function findReasoningName(render: RenderForm, calls: CallForm | null): ReasoningName | null {
  const [asked, calling] = CALLING_TURN;
  const turns: object[] = [{ role: 'assistant', content: 'probe answer' }];
  if (calls !== null) turns.push(...inForm([calling!], calls));
  const isWritten = (name: ReasoningName) =>
    turns.some((turn) => {
      try {
        return render([asked!, { ...turn, [name]: PROBE }], null).includes(PROBE);
      } catch {
        return false;
      }
    });
  return REASONING_NAMES.find(isWritten) ?? null;
}

/** The messages with their reasoning under this name. */
export function withReasoningAs(messages: readonly TemplateMessage[], name: ReasoningName): readonly TemplateMessage[] {
  if (name === 'reasoning_content') return messages;
  return messages.map((message) => {
    const { reasoning_content: reasoning, ...others } = message;
    return reasoning === undefined ? message : { ...others, [name]: reasoning };
  });
}
