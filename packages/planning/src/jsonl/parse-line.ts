import { nestsDeeperThan } from '@lorasmith/contracts';
import { parseWithWholeFloats, WholeFloat } from '@lorasmith/model-folder';
import type { CodedFault } from '../fault-list.js';
import { type Line, MAX_LINE_BYTES, textOfLine } from './line-splitter.js';

/** A line of a JSONL file that is not blank: what it holds, or what is wrong with it. */
export type RawRow = { line: number; fault: null; value: unknown } | { line: number; fault: CodedFault };

/** The deepest valid rows have tools, whose parameters are JSON schemas. */
const MAX_DEPTH = 64;
/** Limits, for docs/limits.md. */
export const lineLimits = {
  nesting: { value: MAX_DEPTH, unit: 'levels', beyond: '422 `invalid_dataset`' },
};

/** @returns null for a blank line */
export function parseLine({ number: line, bytes }: Line, maxLineBytes = MAX_LINE_BYTES): RawRow | null {
  const refused = (code: CodedFault['code'], message: string) => ({ line, fault: { code, message } });
  if (bytes === null) return { line, fault: lineTooLong(maxLineBytes) };
  const text = textOfLine(line, bytes);
  if (text === null) return refused('invalid_dataset', 'The line is not valid UTF-8.');
  if (text === '') return null;
  if (nestsDeeperThan(MAX_DEPTH, text)) {
    return refused('invalid_dataset', `The line is nested deeper than ${MAX_DEPTH} levels.`);
  }
  try {
    return { line, fault: null, value: parsedRow(text) };
  } catch (error) {
    return refused('invalid_json', `The line is not JSON: ${(error as Error).message.slice(0, 200)}.`);
  }
}

/** Tools and their calls keep floats such as `1.0`, because templates print them. */
function parsedRow(text: string): unknown {
  if (!/"tool(?:s|_calls)"/.test(text)) return JSON.parse(text);
  const row = parseWithWholeFloats(text);
  makePlain(row);
  return row;
}

function makePlain(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, part] of Object.entries(value)) {
    if (part instanceof WholeFloat) (value as Record<string, unknown>)[key] = Number(part);
    else if (key !== 'tools' && key !== 'tool_calls') makePlain(part);
  }
}

export function lineTooLong(maxLineBytes: number): CodedFault {
  const message = `The line is longer than ${maxLineBytes} bytes, the limit. Put one row on each line.`;
  return { code: 'invalid_dataset', message };
}
