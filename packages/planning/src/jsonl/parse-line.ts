import { type Line, MAX_LINE_BYTES, textOfLine } from './line-splitter.js';

/** A line of a JSONL file that is not blank: what it holds, or what is wrong with it. */
export type RawRow = { line: number; fault: null; value: unknown } | { line: number; fault: string };

/** @returns null for a blank line */
export function parseLine({ number: line, bytes }: Line): RawRow | null {
  if (bytes === null) return { line, fault: `The line is longer than ${MAX_LINE_BYTES} bytes.` };
  const text = textOfLine(line, bytes);
  if (text === null) return { line, fault: 'The line is not valid UTF-8.' };
  if (text === '') return null;
  try {
    return { line, fault: null, value: JSON.parse(text) };
  } catch (error) {
    return { line, fault: `The line is not valid JSON: ${(error as Error).message.slice(0, 200)}.` };
  }
}
