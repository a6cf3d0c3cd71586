/** A part of a message's content, in the form that templates of models that see images take. */
interface ContentPart {
  type: 'text';
  text: string;
}

const PROBE = 'probe content';

/** Whether a template writes contents that are lists of parts, and none that are texts. */
export function wantsParts(render: (messages: readonly object[]) => string): boolean {
  const writes = (content: string | ContentPart[]) => {
    try {
      return render([{ role: 'user', content }]).includes(PROBE);
    } catch {
      return false;
    }
  };
  return !writes(PROBE) && writes([{ type: 'text', text: PROBE }]);
}

/** The messages with their contents as lists of parts. */
export function withParts(messages: readonly object[]): object[] {
  return messages.map((message) => {
    const { content } = message as { content: unknown };
    return typeof content === 'string' ? { ...message, content: [{ type: 'text', text: content }] } : message;
  });
}
