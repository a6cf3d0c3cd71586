import { bytesText } from '../human-units.js';
import type { DownloadProgress } from '../resumable-download.js';
import { redraw, type TextOutput } from '../text-output.js';

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
