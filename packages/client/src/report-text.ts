import type { AdapterManifest, QueueReason, Report } from '@lorasmith/contracts';
import { bytesText, countText, durationText } from './text-output.js';

const MAX_ROW_CHARACTERS = 600;

/** The form in 4 bits of the base model of an adapter. */
export function quantizationText({
  type,
  on_load: isOnLoad,
}: NonNullable<AdapterManifest['base_model']['quantization']>): string {
  return `${type}, ${isOnLoad ? 'quantized when it is loaded' : 'as it is stored'}`;
}

/** The report of a job as lines of text. */
export function reportText(report: Report): string[] {
  const { parameters, rows, tokens, steps, precision, estimate } = report;
  const { validation_dataset: validation } = report;
  const evaluated = `${countText(rows.validation)} ${validation === null ? 'held out' : 'to evaluate on'}`;
  return [
    `base model    ${report.base_model} (${report.family}), precision ${precision.chosen ?? 'chosen by the worker'}: ${precision.reason}`,
    `parameters    ${countText(parameters.trained)} trained of ${countText(parameters.total)} (${parameters.trained_percent.toPrecision(3)} %), in ${countText(parameters.modules.length)} layers`,
    `rows          ${countText(rows.total)}: ${countText(rows.training)} to train on, ${evaluated}; the longest has ${countText(rows.longest)} tokens`,
    `too long      ${overflowText(rows)}`,
    ...(validation === null ? [] : [validationLine(validation)]),
    ...(report.rendered === null ? [] : [renderedLine(report.rendered)]),
    `tokens        ${countText(tokens.per_epoch)} an epoch, ${countText(tokens.trained_per_epoch)} of them with a loss; ${countText(tokens.total)} in all`,
    ...(report.preference === undefined ? [] : [preferenceLine(report.preference)]),
    ...(report.labels === undefined ? [] : [labelsLine(report.labels)]),
    ...(report.groups === undefined ? [] : [groupsLine(report.groups)]),
    `steps         ${countText(steps.total)} (${countText(steps.per_epoch)} an epoch), ${countText(steps.warmup)} of warm-up`,
    ...(estimate === null ? [] : [estimateLine(estimate)]),
    ...report.warnings.map(({ message }) => `warning       ${message}`),
  ];
}

/** The pairs of answers, and what the reference thinks of them. */
export function preferenceLine({ pairs, reference_accuracy: share }: NonNullable<Report['preference']>): string {
  const known =
    share === null ? '' : `; of ${(100 * share).toFixed(1)} % the reference already prefers the chosen answer`;
  return `pairs         ${countText(pairs)} to train on${known}`;
}

function labelsLine({ desirable, undesirable }: NonNullable<Report['labels']>): string {
  return `labels        ${countText(desirable)} answers with true, ${countText(undesirable)} with false`;
}

function groupsLine({
  prompts,
  answers_per_step: answers,
  most_tokens_per_step: tokens,
}: NonNullable<Report['groups']>) {
  return `groups        ${countText(prompts)} prompts to train on; ${countText(answers)} answers are sampled for a step, with up to ${countText(tokens)} tokens`;
}

/** The first row in one line; what is trained is in brackets. */
function renderedLine({ completion_format, first_row, label }: NonNullable<Report['rendered']>): string {
  const text = first_row.map((piece) => (piece.trained ? `[${piece.text}]` : piece.text)).join('');
  const of = [
    ...(completion_format === null ? [] : [`completion_format ${completion_format}`]),
    ...(label === undefined ? [] : [`label ${label}`]),
  ];
  const written = of.length === 0 ? '' : ` (${of.join(', ')})`;
  const shown = text.length > MAX_ROW_CHARACTERS ? `${text.slice(0, MAX_ROW_CHARACTERS)} …` : text;
  return `first row     ${shown.replaceAll('\n', '\\n')}${written}`;
}

/** The outcome for rows that are too long. */
function overflowText({ overflowed, ...rows }: Overflow): string {
  if (overflowed === 0) return 'none';
  const handled = (['dropped', 'truncated', 'split'] as const)
    .filter((what) => rows[what] !== 0)
    .map((what) => `, ${countText(rows[what])} ${what}`);
  return `${countText(overflowed)} rows${handled.join('')}`;
}

type Overflow = Pick<Report['rows'], 'overflowed' | 'dropped' | 'truncated' | 'split'>;

function validationLine({ id, rows, longest, ...overflow }: NonNullable<Report['validation_dataset']>): string {
  return `validation    ${countText(rows)} rows of ${id}; the longest has ${countText(longest)} tokens; too long: ${overflowText(overflow)}`;
}

function estimateLine({ machine, ...estimate }: NonNullable<Report['estimate']>): string {
  const memory = `${bytesText(estimate.peak_memory_bytes)} of the ${bytesText(estimate.available_memory_bytes)} that ${machine} has`;
  const layers = estimate.recomputed_layers;
  const again = layers === 0 ? '' : `, ${layers === 1 ? 'a layer' : `${layers} layers`} computed again to save memory`;
  return `estimate      ${durationText(estimate.total_seconds)} at ${estimate.seconds_per_step.toPrecision(2)} s a step; ${memory}${again}`;
}

/** The value of a setting as text: a number, true, false, null, JSON of a list or an object, or else the text. */
export function settingOf(text: string): unknown {
  if (text === 'true' || text === 'false' || text === 'null') return JSON.parse(text);
  // Objects and arrays: `{"q_proj": 4}`, `[0, 2]`.
  if (/^[[{]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}

const TEXTS: Readonly<Record<QueueReason, string>> = {
  'no-worker': 'no worker runs',
  'worker-starting': 'the worker is still starting',
  'worker-self-test':
    'the worker compares its engine on the GPU with the CPU, which takes a minute, or several on a slow processor',
  'worker-measuring': 'the worker measures its machine, about 30 s at a first start',
  'workers-busy': 'all workers are busy with other jobs',
};

/** The reason why a job waits, as a clause. A later version of the service may know further reasons. */
export function queueReasonText(reason: QueueReason): string {
  return TEXTS[reason] ?? reason;
}
