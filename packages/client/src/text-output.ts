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
