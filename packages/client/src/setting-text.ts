/** The value of a setting as text: a number, true, false, null, JSON of a list or an object, or else the text. */
export function settingOf(text: string): unknown {
  if (text === 'true' || text === 'false' || text === 'null') return JSON.parse(text);
  // Objects and arrays: `{"q_proj": 4}`, `[0, 2]`.
  if (/^[[{]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
