import type { TextOutput } from '../job-progress.js';
import { printable } from '../printable.js';

/** Erases the line in which a bar is drawn. */
const ERASE_LINE = '\r\x1b[2K';

/** An output to which only printable text is written, besides the erasing of a line at its start, whatever is in a name. */
export function printableOutput(output: TextOutput): TextOutput {
  return {
    write(text) {
      const isBar = text.startsWith(ERASE_LINE);
      return output.write(`${isBar ? ERASE_LINE : ''}${printable(isBar ? text.slice(ERASE_LINE.length) : text)}`);
    },
    get isTTY() {
      return output.isTTY;
    },
    get columns() {
      return output.columns;
    },
  };
}
