import type { Report } from '@lorasmith/contracts';
import { bytesText, countText, durationText } from './human-units.js';

/** The report of a job as lines of text. */
export function reportText(report: Report): string[] {
  const { parameters, rows, tokens, steps, precision, estimate } = report;
  const handled = [
    [rows.dropped, 'dropped'],
    [rows.truncated, 'truncated'],
    [rows.split, 'split'],
  ]
    .filter(([count]) => count !== 0)
    .map(([count, what]) => `, ${countText(count as number)} ${what}`)
    .join('');
  return [
    `base model    ${report.base_model} (${report.family}), precision ${precision.chosen ?? 'chosen by the worker'}: ${precision.reason}`,
    `parameters    ${countText(parameters.trained)} trained of ${countText(parameters.total)} (${parameters.trained_percent.toPrecision(3)} %), in ${countText(parameters.modules.length)} layers`,
    `rows          ${countText(rows.total)}: ${countText(rows.training)} to train on, ${countText(rows.validation)} held out; the longest has ${countText(rows.longest)} tokens`,
    `too long      ${rows.overflowed === 0 ? 'none' : `${countText(rows.overflowed)} rows${handled}`}`,
    `tokens        ${countText(tokens.per_epoch)} an epoch, ${countText(tokens.trained_per_epoch)} of them with a loss; ${countText(tokens.total)} in all`,
    `steps         ${countText(steps.total)} (${countText(steps.per_epoch)} an epoch), ${countText(steps.warmup)} of warm-up`,
    ...(estimate === null ? [] : [estimateLine(estimate)]),
    ...report.warnings.map(({ message }) => `warning       ${message}`),
  ];
}

function estimateLine({ machine, ...estimate }: NonNullable<Report['estimate']>): string {
  const memory = `${bytesText(estimate.peak_memory_bytes)} of the ${bytesText(estimate.available_memory_bytes)} that ${machine} has`;
  const again = estimate.recompute ? ', layers computed again to save memory' : '';
  return `estimate      ${durationText(estimate.total_seconds)} at ${estimate.seconds_per_step.toPrecision(2)} s a step; ${memory}${again}`;
}
