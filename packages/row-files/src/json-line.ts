/** JSON in one line, as it is written: line breaks are between values, since its texts have none. Null for a text that is no JSON. */
export function jsonLine(text: string): string | null {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  return text.replace(/[\r\n]+/g, ' ').trim();
}
