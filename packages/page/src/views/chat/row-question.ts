/** The question of a row of a dataset, and its answer. */
export interface RowQuestion {
  system: string;
  question: string;
  answer: string;
}

/** The question of a row as it was uploaded; null if it has none, or is more than one question. */
export function questionOf(line: string): RowQuestion | null {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch {
    // Long rows are cut.
    return null;
  }
  if (!isObject(row)) return null;
  if (typeof row.prompt === 'string' && typeof row.completion === 'string') {
    return { system: '', question: row.prompt.trim(), answer: row.completion.trim() };
  }
  const messages = Array.isArray(row.messages) ? row.messages : joined(row.prompt, row.completion);
  const turns = messages.filter(isMessage);
  if (turns.length !== messages.length) return null;
  const [system, user, assistant, ...others] =
    turns[0]?.role === 'system' ? turns : [{ role: 'system', content: '' }, ...turns];
  if (user?.role !== 'user' || assistant?.role !== 'assistant' || others.length > 0) return null;
  return { system: system!.content, question: user.content, answer: assistant.content };
}

function joined(prompt: unknown, completion: unknown): unknown[] {
  return Array.isArray(prompt) && Array.isArray(completion) ? [...prompt, ...completion] : [];
}

function isMessage(value: unknown): value is { role: string; content: string } {
  return isObject(value) && typeof value.role === 'string' && typeof value.content === 'string';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
