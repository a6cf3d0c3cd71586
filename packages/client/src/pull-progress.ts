import type { ModelPull } from '@lorasmith/contracts';
import { barText } from './job-progress.js';
import { bytesText, durationText, printable, redraw, type TextOutput } from './text-output.js';

/** Time between lines in a file or pipe. On a terminal, the bar is redrawn. */
const PLAIN_LINE_INTERVAL_MS = 10_000;

/** The state of a pull in one line: what has arrived, the commit, or why it failed. */
export function pullText(pull: ModelPull): string {
  const { status, error, commit, received_bytes: received, total_bytes: total } = pull;
  if (error !== null) return `${status} (${error.code}): ${printable(error.message)}`;
  if (status === 'succeeded') return `${bytesText(total)} of commit ${commit}`;
  return status === 'pulling' && total > 0 ? `${bytesText(received)} of ${bytesText(total)}` : status;
}

/** Shows a pull while it runs: on a terminal as a bar with speed and remaining time, elsewhere as lines. */
export function createPullDisplay(output: TextOutput, now: () => number = Date.now) {
  let barIsOpen = false;
  let plainLineAt = Number.NEGATIVE_INFINITY;
  let first: { at: number; bytes: number } | undefined;
  return {
    show(pull: ModelPull): void {
      const { status, received_bytes: received, total_bytes: total } = pull;
      if (status !== 'pulling' || total === 0) return;
      first ??= { at: now(), bytes: received };
      const perSecond = (1000 * (received - first.bytes)) / Math.max(1, now() - first.at);
      const speed =
        perSecond > 0 ? `${bytesText(perSecond)}/s  ${durationText((total - received) / perSecond)} left` : '';
      const text = (columns: number) => barText(pullText(pull), received / total, speed, columns);
      if (output.isTTY) {
        redraw(output, text(output.columns || 80));
        barIsOpen = true;
      } else if (now() - plainLineAt >= PLAIN_LINE_INTERVAL_MS) {
        plainLineAt = now();
        output.write(`${text(100)}\n`);
      }
    },
    /** Ends the line of an open bar. */
    end(): void {
      if (barIsOpen) output.write('\n');
      barIsOpen = false;
    },
  };
}
