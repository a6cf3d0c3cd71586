import {
  type DatasetRowView,
  MAX_ROW_CHARACTERS,
  type TrainingSettings,
  type UploadedDataset,
} from '@lorasmith/contracts';
import type { ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import { FaultList } from './fault-list.js';
import { type Line, parseLine, readLines, textOfLine } from './json-lines.js';
import type { LengthSettings } from './objectives/next-token/length-limit.js';
import { objectiveFor } from './objectives/objectives.js';
import { BatchConverter } from './row-conversion/batch-converter.js';

export interface ViewRowsOptions {
  dataset: UploadedDataset;
  /** The dataset's rows, JSONL. */
  rowsFile: string;
  /** Only rows after this line. */
  after: number;
  /** Most rows. */
  limit: number;
  /** The encoding of the rows as tokens; null: there is none. */
  encoding: RowEncoding | null;
}

export interface RowEncoding {
  model: ModelFolder;
  texts: ModelTexts;
  settings: LengthSettings & Pick<TrainingSettings, 'completion_format'>;
}

export interface ViewedRows {
  data: DatasetRowView[];
  /** True if there are rows after these. */
  has_more: boolean;
}

/** An answer ends with the row that exceeds one of these; the time is that of making tokens. */
const MOST_TOKENS = 16_384;
/** Limits, for docs/limits.md. */
export const rowPageLimits = {
  tokens: { value: MOST_TOKENS, unit: 'tokens', beyond: 'the page has fewer rows' },
};
const MOST_CHARACTERS = 262_144;
const MOST_MS = 2_000;

/**
 * Rows of a dataset as they were uploaded, and as a job makes them tokens. They are read from the file, up to the last of
 * them, and not from the stored tokens: these may not exist yet.
 *
 * @throws ProductError `dataset_not_found`, `dataset_format_mismatch`; those of the tokenizer and the chat template
 */
export async function viewRows({ rowsFile, after, limit, ...options }: ViewRowsOptions): Promise<ViewedRows> {
  const view = await viewer(options);
  const data: DatasetRowView[] = [];
  let [tokens, characters, usedMs] = [0, 0, 0];
  const isFull = () =>
    data.length === limit || tokens > MOST_TOKENS || characters > MOST_CHARACTERS || usedMs > MOST_MS;
  for await (const lines of readLines(rowsFile, { after })) {
    for (const line of lines) {
      if (isBlank(line)) continue;
      if (data.length > 0 && isFull()) return { data, has_more: true };
      const beginMs = performance.now();
      const row = view(line);
      usedMs += performance.now() - beginMs;
      data.push(row);
      tokens += row.tokens?.data.length ?? 0;
      characters += row.text.length;
    }
  }
  return { data, has_more: false };
}

function isBlank({ number, bytes }: Line): boolean {
  return bytes !== null && textOfLine(number, bytes) === '';
}

async function viewer({
  dataset,
  encoding,
}: Pick<ViewRowsOptions, 'dataset' | 'encoding'>): Promise<(line: Line) => DatasetRowView> {
  if (encoding === null) return (line) => ({ ...textOf(line), faults: [], tokens: null });
  const { model, texts, settings } = encoding;
  const objective = objectiveFor(model, dataset);
  const converter = new BatchConverter(
    dataset,
    await objective.createConverter({ model, dataset, completionFormat: settings.completion_format }, texts),
  );
  const limit = objective.lengthLimit({ model, spec: { training: settings } });
  const tokenizer = limit === null ? null : (await texts.of(model.path)).tokenizer;
  return (line) => {
    const converted = converter.convertRow(parseLine(line)!);
    const faults = new FaultList();
    const at = { line: line.number };
    if (Array.isArray(converted)) {
      faults.add(...converted.map((fault) => ({ ...fault, ...at })));
      return { ...textOf(line), faults: faults.listed, tokens: null };
    }
    const { codes } = converted;
    const fault = limit?.faultOf(objective.longestOf?.(codes) ?? codes.length) ?? null;
    if (fault !== null) faults.add({ ...fault, ...at });
    const shown = { ...textOf(line), faults: faults.listed };
    return { ...shown, ...(tokenizer === null ? { tokens: null } : objective.view!(codes, limit!, tokenizer)) };
  };
}

function textOf(line: Line): Pick<DatasetRowView, 'line' | 'text' | 'characters'> {
  const { number, bytes } = line;
  const text = (bytes === null ? '' : (textOfLine(number, bytes) ?? '')).trim();
  return { line: number, text: text.slice(0, MAX_ROW_CHARACTERS), characters: text.length };
}
