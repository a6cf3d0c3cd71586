import { UNPRINTABLE } from '@lorasmith/contracts';

/** An output for text: a terminal, whose last line can be redrawn, or a file or pipe. */
export interface TextOutput {
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  write(text: string): unknown;
  /** Writes a text in place of the last line. @defaultValue writes the escape sequence of terminals before the text */
  redraw?: ((text: string) => unknown) | undefined;
}

const ERASE_LINE = '\r\x1b[2K';

/** Writes a text in place of the last line of a terminal. */
export function redraw(output: TextOutput, text: string): void {
  if (output.redraw === undefined) output.write(`${ERASE_LINE}${text}`);
  else output.redraw(text);
}

/** `1.4 GB`, in decimal units. */
export function bytesText(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** `48 s`, `3 min 05 s`, `2 h 10 min`. */
export function durationText(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (value: number) => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** `135,000,000`. */
export function countText(count: number): string {
  return count.toLocaleString('en-US');
}

const unprintable = new RegExp(`[${UNPRINTABLE}]`, 'g');

/**
 * Text of others for a terminal, such as a name or the text of a model: without the characters that would change what else
 * is shown.
 */
export function printable(text: string): string {
  return text.replace(unprintable, (character) => (character === '\n' || character === '\t' ? character : ''));
}

/** JSON for a terminal: those characters are escaped. */
export function printableJson(value: unknown, indent?: number): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(value, undefined, indent).replace(unprintable, (one) => (one === '\n' ? one : escaped(one)));
}
