import type { DownloadProgress } from '../resumable-download.js';
import { bytesText, printable, redraw, type TextOutput } from '../text-output.js';

/** Aligns rows as columns, numbers to the right. */
export function textTable(header: string[], rows: (string | number)[][]): string {
  const cells = [header, ...rows.map((row) => row.map((cell) => printable(String(cell)).replaceAll(/[\n\t]/g, ' ')))];
  const widths = header.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const isNumber = header.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'));
  return cells
    .map((row) =>
      row
        .map((cell, column) => (isNumber[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

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

const REDRAW_INTERVAL_MS = 100;

/** Shows the progress of a download or an upload on a terminal, and nothing elsewhere. */
export function createTransferProgress(output: TextOutput, now: () => number = Date.now) {
  let drawnAt = Number.NEGATIVE_INFINITY;
  return {
    handle({ receivedBytes, totalBytes }: DownloadProgress): void {
      if (!output.isTTY || (now() - drawnAt < REDRAW_INTERVAL_MS && receivedBytes !== totalBytes)) return;
      drawnAt = now();
      const share = totalBytes ? `  ${Math.floor((100 * receivedBytes) / totalBytes)} %` : '';
      const total = totalBytes === null ? '' : ` of ${bytesText(totalBytes)}`;
      redraw(output, `${bytesText(receivedBytes)}${total}${share}`);
    },
    end(): void {
      if (output.isTTY && drawnAt !== Number.NEGATIVE_INFINITY) output.write('\n');
    },
  };
}
