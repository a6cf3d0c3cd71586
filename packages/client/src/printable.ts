/** Text of a model for a terminal: without the control characters that would change what else is shown. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => (character === '\n' || character === '\t' ? character : ''));
}
