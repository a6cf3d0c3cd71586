import { type Dataset, type JobSpec, MAX_SAMPLE_TOKENS } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { Examples } from './example-file/examples.js';
import type { CodedFault } from './fault-list.js';
import type { Objective, ScoredRow } from './objectives/objective.js';

/** The fault of settings with which no answers to held-out rows can be compared; null without one. */
export function heldOutRowsFault(
  { samples, validation }: JobSpec,
  { format }: Pick<Dataset, 'format'>,
  { scoredRow }: Pick<Objective, 'scoredRow'>,
): CodedFault | null {
  if (samples === null) return null;
  const fault = (param: string, message: string): CodedFault => ({ code: 'invalid_job', message, param });
  const { prompts, held_out_rows: rows } = samples;
  if (rows === 0) {
    if (prompts.length > 0) return null;
    return fault('samples.prompts', 'samples asks for nothing: name prompts, or set samples.held_out_rows.');
  }
  const param = 'samples.held_out_rows';
  if (scoredRow === undefined || format === 'text') {
    const message = 'Answers are compared only with rows of a prompt and one answer. Set samples.held_out_rows to 0.';
    return fault(param, message);
  }
  if (validation.split > 0 || validation.dataset !== null) return null;
  return fault(param, 'samples.held_out_rows needs held-out rows: set validation.split or validation.dataset.');
}

/**
 * The first held-out rows that `samples.held_out_rows` asks for. A row whose prompt leaves an answer no place is left out.
 */
export function scoredRows(
  validation: Examples | null,
  { scoredRow }: Pick<Objective, 'scoredRow'>,
  { samples }: JobSpec,
  { architecture }: ModelFolder,
): ScoredRow[] {
  if (samples === null || validation === null || scoredRow === undefined || architecture.kind !== 'decoder') return [];
  const most = Math.min(MAX_SAMPLE_TOKENS, architecture.maxPositions) - samples.max_tokens;
  const rows: ScoredRow[] = [];
  for (let index = 0; index < validation.count && rows.length < samples.held_out_rows; index++) {
    const row = scoredRow(validation, index);
    if (row.promptIds.length > 0 && row.promptIds.length <= most) rows.push(row);
  }
  return rows;
}
