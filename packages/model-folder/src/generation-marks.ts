import { randomBytes } from 'node:crypto';

/** A part of a rendered conversation. */
export interface MarkedText {
  text: string;
  /** Whether it is within `{% generation %}`: the template says that the assistant wrote it. */
  isGenerated: boolean;
}

/** The marks as transformers reads them, with the white space that Jinja removes around a block. */
const MARK = /(?:^[ \t]*)?\{%(-?)\s*(?:end)?generation\s*(-?)%\}\n?/gm;
/** The text that the marks print. No template or conversation contains it. */
const SEPARATOR = `\uE000${randomBytes(16).toString('hex')}\uE000`;

/** The source with marks that print a separator; null if it has no marks. */
export function withPrintedMarks(source: string): string | null {
  if (!/\{%-?\s*generation\s*-?%\}/.test(source)) return null;
  return source.replace(MARK, (_, left: string, right: string) => `{{${left} "${SEPARATOR}" ${right}}}`);
}

/** The parts of a text that such a source printed; null if a mark is not closed. */
export function markedParts(text: string): MarkedText[] | null {
  const parts = text.split(SEPARATOR);
  if (parts.length % 2 === 0) return null;
  return parts.map((part, index) => ({ text: part, isGenerated: index % 2 === 1 }));
}
