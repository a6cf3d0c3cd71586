import { printable } from '../printable.js';
import { redraw, type TextOutput } from '../text-output.js';

/** An output to which only printable text is written, whatever is in a name or an answer. A line is still redrawn. */
export function printableOutput(output: TextOutput): TextOutput {
  return {
    write: (text) => output.write(printable(text)),
    redraw: (text) => redraw(output, printable(text)),
    get isTTY() {
      return output.isTTY;
    },
    get columns() {
      return output.columns;
    },
  };
}
