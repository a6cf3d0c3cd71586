import type { TemplateMessage } from './conversation.js';
import { CALLING_TURN, type CallForm, inForm, type RenderForm } from './tool-form.js';

/** The names under which templates look for the reasoning of a message: those of Qwen and DeepSeek, gpt-oss, and Gemma. */
export const REASONING_NAMES = ['reasoning_content', 'thinking', 'reasoning'] as const;
export type ReasoningName = (typeof REASONING_NAMES)[number];
/** How a template wants reasoning: under a name, or as a part of the content before its text, as Ministral 3. */
export type ReasoningForm = ReasoningName | 'part';

const FORMS: readonly ReasoningForm[] = [...REASONING_NAMES, 'part'];
const PROBE = 'probe reasoning';

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
      const [thought] = withReasoning([{ ...turn, reasoning_content: PROBE }], form);
      try {
        const text = render([asked!, ...(calls === null ? [thought!] : inForm([thought!], calls))], null);
        // A template that takes no parts may print their fields.
        return text.includes(PROBE) && !/["']thinking["']/.test(text);
      } catch {
        return false;
      }
    });
  return FORMS.find(isWritten) ?? null;
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
      ...(form === 'part' ? inParts(reasoning, message.content) : { [form]: reasoning }),
    } as TemplateMessage;
  });
}

function inParts(thinking: string, text: string): { content: object[] } {
  return { content: [{ type: 'thinking', thinking }, ...(text === '' ? [] : [{ type: 'text', text }])] };
}
