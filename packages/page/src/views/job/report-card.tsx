import { bytesText, countText, durationText } from '@lorasmith/client/core';
import type { Report } from '@lorasmith/contracts';
import { Facts, ScrollRegion } from '../../components/data-table.js';
import { FaultList } from '../../components/error-notice.js';

/** The work of a job, as the service planned it. */
export function ReportCard({ report }: { report: Report }) {
  const { parameters, rows, tokens, steps, precision, estimate, validation_dataset: validation } = report;
  return (
    <section class="card">
      <h2>Report before training</h2>
      <Facts
        entries={[
          ['Base model', `${report.base_model} (${report.family})`],
          ['Trained parameters', `${countText(parameters.trained)} (${parameters.trained_percent.toPrecision(3)} %)`],
          ['Adapted layers', countText(parameters.modules.length)],
          [
            'Rows',
            `${countText(rows.training)} to train on, ${countText(rows.validation)} ${validation === null ? 'held out' : 'to evaluate on'}`,
          ],
          ['Longest row', `${countText(rows.longest)} tokens`],
          ['Too long', overflowText(rows)],
          ['Validation dataset', validation && <code>{validation.id}</code>],
          ['Too long for validation', validation && overflowText(validation)],
          ['First row', report.rendered && <code class="rendered-row">{renderedText(report.rendered.first_row)}</code>],
          [
            'Its rejected answer',
            report.rendered?.rejected && <code class="rendered-row">{renderedText(report.rendered.rejected)}</code>,
          ],
          ['Its label', report.rendered?.label === undefined ? undefined : String(report.rendered.label)],
          ['Pairs', report.preference && pairsText(report.preference)],
          ['Labels', report.labels && labelsText(report.labels)],
          ['Answers', report.groups && groupsText(report.groups)],
          ['Tokens', `${countText(tokens.total)}, ${countText(tokens.per_epoch)} an epoch`],
          ['Tokens with a loss', `${countText(tokens.trained_per_epoch)} an epoch`],
          ['Steps', `${countText(steps.total)}, ${countText(steps.per_epoch)} an epoch`],
          ['Warm-up', `${countText(steps.warmup)} ${steps.warmup === 1 ? 'step' : 'steps'}`],
          ['Precision', `${precision.chosen ?? 'chosen by the worker'}: ${precision.reason}`],
          ['Adapter', `at most ${bytesText(report.adapter_bytes)}, the ${report.publish} state`],
          ['Estimated time', estimate && durationText(estimate.total_seconds)],
          [
            'Estimated memory',
            estimate &&
              `${bytesText(estimate.peak_memory_bytes)} of ${bytesText(estimate.available_memory_bytes)} on ${estimate.machine}${estimate.recomputed_layers > 0 ? `, ${estimate.recomputed_layers} layers computed again` : ''}`,
          ],
        ]}
      />
      <details>
        <summary>The {countText(parameters.modules.length)} adapted layers</summary>
        <ScrollRegion label="Adapted layers" class="module-list">
          <ul>
            {parameters.modules.map((name) => (
              <li key={name}>
                <code>{name}</code>
              </li>
            ))}
          </ul>
        </ScrollRegion>
      </details>
    </section>
  );
}

/** The text as the model reads it; what is trained is in brackets. */
function renderedText(parts: NonNullable<Report['rendered']>['first_row']): string {
  return parts.map(({ text, trained }) => (trained ? `[${text}]` : text)).join('');
}

function groupsText({
  answers_per_step: answers,
  most_tokens_per_step: tokens,
}: NonNullable<Report['groups']>): string {
  return `${countText(answers)} sampled for a step, with up to ${countText(tokens)} tokens`;
}

function pairsText({ pairs, reference_accuracy: share }: NonNullable<Report['preference']>): string {
  const known =
    share === null ? '' : `, of ${(100 * share).toFixed(1)} % the reference already prefers the chosen answer`;
  return `${countText(pairs)} to train on${known}`;
}

function labelsText({ desirable, undesirable }: NonNullable<Report['labels']>): string {
  return `${countText(desirable)} answers with true, ${countText(undesirable)} with false`;
}

/** The warnings of the service: odd, but not wrong. */
export function Warnings({ report }: { report: Report }) {
  if (report.warnings.length === 0) return null;
  return (
    <section class="notice notice-warning" aria-label="Warnings">
      <h2>{report.warnings.length === 1 ? 'Warning' : `${report.warnings.length} warnings`}</h2>
      <FaultList faults={report.warnings} />
    </section>
  );
}

type Overflow = Pick<Report['rows'], 'overflowed' | 'dropped' | 'truncated' | 'split'>;

function overflowText(rows: Overflow): string {
  if (rows.overflowed === 0) return 'none';
  const handled = (['dropped', 'truncated', 'split'] as const)
    .filter((what) => rows[what] > 0)
    .map((what) => `${countText(rows[what])} ${what}`);
  return [`${countText(rows.overflowed)} rows`, ...handled].join(', ');
}
