import { memberTexts } from '@lorasmith/contracts';
import { textLines } from './text-lines.js';

/** Fields of a row there that are not what graders compare answers with. */
const OF_THE_PROMPT = ['messages', 'tools', 'parallel_tool_calls'];

/**
 * Rows of OpenAI's reinforcement fine-tuning, `{"messages", …}`, as prompts with a reference: `{"prompt", "reference": {…}}`. Numbers keep
 * their text. A line that is no such row stays as it is, so that the service names it.
 */
export async function* gradedRows(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  for await (const line of textLines(chunks)) {
    if (line.trim() !== '') yield `${gradedRow(line)}\n`;
  }
}

function gradedRow(line: string): string {
  try {
    const row: unknown = JSON.parse(line);
    if (typeof row !== 'object' || row === null || Array.isArray(row) || !('messages' in row)) return line;
  } catch {
    return line;
  }
  const members = memberTexts(line);
  const others = [...members].filter(([name]) => !OF_THE_PROMPT.includes(name));
  const reference = others.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(',');
  const tools = ['tools', 'parallel_tool_calls'].flatMap((name) => {
    const text = members.get(name);
    return text === undefined ? [] : [`,${JSON.stringify(name)}:${text}`];
  });
  return `{"prompt":${members.get('messages')},"reference":{${reference}}${tools.join('')}}`;
}
