import {
  type CompletionFormat,
  type DatasetFormat,
  type ErrorCode,
  type Fault,
  type FeaturesRow,
  type GradedPromptRow,
  type JobObjective,
  type JobSpec,
  type LabelledRow,
  objectiveContract,
  type PairRow,
  type RenderedRow,
  type Report,
  type SamplePrompt,
  type TextualRow,
  type UploadedDataset,
} from '@lorasmith/contracts';
import type { ModelFolder, ModelTexts, Tokenizer } from '@lorasmith/model-folder';
import type { Validator } from 'typebox/compile';
import type { ExampleRecord, RowCounts } from '../example-file/example-file.js';
import type { ExampleSource, Examples } from '../example-file/examples.js';
import type { CodedFault, FaultList } from '../fault-list.js';
import type { GradedRows } from './group-relative/graded-rows.js';
import type { LengthLimit, LengthSettings, RowView } from './next-token/length-limit.js';

/** Something in a row that the report warns of, although the row can be trained on. */
export interface RowRemark {
  /** The code of the warning. */
  code: string;
  detail?: string;
}

/** Rows with the same remark. */
export interface RemarkCount {
  code: string;
  rows: number;
  /** Line of the first of them. */
  line: number;
  /** The detail of the first of them. */
  detail: string;
}

/** Counts the remarks on rows. The rows are added in the order of the file. */
export class RemarkCounts {
  readonly #counts = new Map<string, RemarkCount>();

  get all(): RemarkCount[] {
    return [...this.#counts.values()];
  }

  add({ code, rows, line, detail }: RemarkCount): void {
    const known = this.#counts.get(code);
    if (known === undefined) this.#counts.set(code, { code, rows, line, detail });
    else known.rows += rows;
  }
}

/** The work that the examples of an objective are: orders, evaluations and estimates ask for nothing else. */
export interface ExampleLoad<Of extends Examples = Examples> {
  /** Sequences of an example. The two of a pair are taken to be equally long. */
  readonly sequences: number;
  /** Steps one after the other that train on the same examples. */
  readonly updates: number;
  /** True if every epoch has the order of the first, so that examples that are compared with each other are always the same. */
  readonly keepsOrder: boolean;
  /** The number of times that an evaluation reads each example. 0: it samples answers instead. */
  readonly readings: number;
  /** True if a reference reads all examples before the training. */
  readonly hasReference: boolean;
  /** The answers that are sampled to each example, and trained on; null where none are. */
  readonly answers: AnswersLoad | null;
  /** Tokens of all sequences of an example. @param length of the example */
  tokensOf(length: number): number;
  sizesOf(examples: Of, index: number): ExampleSizes;
  /** Tokens that all examples begin with, up to the first that predicts a label of one. */
  commonOf(examples: Of): number;
}

/** The answers to one prompt of a job that trains on them. */
export interface AnswersLoad {
  choices: number;
  /** Most tokens of an answer. */
  most: number;
  /** True if a reference reads the answers of each step. */
  hasReference: boolean;
}

/** The sizes of one example. */
interface ExampleSizes {
  /** Tokens that memory takes to be one row. */
  longest: number;
  labels: number;
  /** Tokens that are the prompt of a sequence after the first. */
  repeated: number;
}

/** Examples of one sequence each, with labels of its own. */
export const ONE_SEQUENCE: ExampleLoad = {
  sequences: 1,
  updates: 1,
  keepsOrder: false,
  readings: 1,
  hasReference: false,
  answers: null,
  tokensOf: (length) => length,
  sizesOf: (examples, index) => ({
    longest: examples.lengthOf(index),
    labels: examples.labelsOf(index),
    repeated: 0,
  }),
  commonOf: () => 0,
};

/** The objective that a job names; undefined: none. */
export type NamedObjective = JobSpec['objective'];

/** Tokens of a prompt that sequences after the first share. The last of a prompt is computed in each. */
export function repeatedOf(prompt: number, sequences: number): number {
  return (sequences - 1) * Math.max(0, Math.floor(prompt) - 1);
}

/** A fault within one row; the reader of the file adds the line. */
export type RowFault = Fault & { code: ErrorCode };

/** More add nothing about one row, and a list of a million wrong numbers must not become a million faults. */
export const MAX_FAULTS_PER_ROW = 8;

/** One shape that a row can have, recognized by its keys. */
export interface RowFormat {
  name: DatasetFormat;
  /** Keys that no other format has. */
  tellingKeys: readonly string[];
  /** Keys of which the row must have one, too. @defaultValue none */
  companionKeys?: readonly string[];
  /** All its keys, in words. */
  keys: string;
  schema: Pick<Validator, 'Check' | 'Errors'>;
  /** Fields of other formats in a row that fails the schema, by name; they are then all that is reported. */
  named?(row: unknown): RowFault[];
  /** Faults that a schema cannot find, of a row that passes it. */
  faults(row: unknown): RowFault[];
}

/** The rows of a dataset for a model. What they become depends on nothing else, so every job on both has the same. */
export interface RowsOfModel {
  model: ModelFolder;
  dataset: UploadedDataset;
  completionFormat: CompletionFormat;
}

/** The model and the dataset of a job. */
export interface ObjectiveJob extends Omit<RowsOfModel, 'completionFormat'> {
  spec: JobSpec;
}

/**
 * The part of an objective that planning needs: which rows it learns from, and which examples they become. The loss is the
 * other half, in packages/training under the same `kind`: planning never loads the engine.
 */
export interface Objective<Of extends Examples = Examples> {
  readonly kind: Of['kind'];
  /** The kind of the objective that a job names to have it; null: the job names none. */
  readonly named: JobObjective['kind'] | null;
  /** Kind of the base models that it trains. */
  readonly modelKind: ModelFolder['architecture']['kind'];
  readonly formats: readonly RowFormat[];
  /** Its rows, in words. */
  readonly rows: string;
  /** All that examples depend on besides the dataset. Stored examples are used again only where it is the same. */
  examplesDependOn(rows: RowsOfModel): Promise<object>;
  createConverter(rows: RowsOfModel, texts: ModelTexts): Promise<RowConverter>;
  /**
   * Makes what encodes these prompts, as they stand in rows before what is trained; null where a model answers no prompts. The
   * encoder throws ProductError for a prompt at fault.
   */
  createPromptEncoder:
    | ((rows: RowsOfModel, prompts: readonly SamplePrompt[], texts: ModelTexts) => Promise<PromptEncoder>)
    | null;
  /** The warning for each kind of remark that the converter makes, in the order of the report. */
  readonly remarkWarnings: Readonly<Record<string, (remark: RemarkCount) => Fault>>;
  /** The handling of long rows with these settings; null where rows have no length. */
  lengthLimit(job: LimitedJob): LengthLimit | null;
  /** Tokens of the longest sequence of an example; null where it is one sequence, of as many as {@link tokensOf} says. */
  longestOf: ((codes: Int32Array) => number) | null;
  /** The settings of a job that this objective cannot have. */
  settingsFaults(job: ObjectiveJob): CodedFault[];
  /** The count of tokens of a stored example. */
  tokensOf(record: Pick<ExampleRecord, 'codes'>): number;
  /** Examples as the loss reads them. */
  examples(source: ExampleSource, model: ModelFolder): Of;
  /** The work that its examples are. */
  load(settings: NamedObjective): ExampleLoad<Of>;
  /** A row as it is shown; absent where rows have no length. @param codes of the whole row */
  view?(codes: Int32Array, limit: LengthLimit, tokenizer: Tokenizer): RowView;
  /** An example as a prompt and its answer; absent where answers to its prompts are not compared with it. */
  scoredRow?(examples: Of, index: number): ScoredRow;
  /**
   * Adds a fault for each example of a validation dataset whose target nothing trained on has; absent where any target can be learnt.
   * @throws ProductError `cancelled`
   */
  checkTargets?(splits: SplitsOfJob<Of>, faults: FaultList): Promise<void>;
  /**
   * Adds a fault for each row that the settings of the job do not fit; null where what is wrong with a row depends on no setting.
   * @returns the rows, if they were read for it and a training reads them too
   * @throws ProductError `dataset_not_found`, `cancelled`
   */
  checkRows:
    | ((
        job: Pick<ObjectiveJob, 'spec'>,
        rowsFile: string,
        faults: FaultList,
        signal?: AbortSignal,
      ) => Promise<GradedRows | null>)
    | null;
  /** The warnings of the report, once all rows are converted. */
  warnings(job: ObjectiveJob, counts: RowCounts): Fault[];
  /** The part of the report about the examples to train on, besides their sizes; absent: none. @throws ProductError `cancelled` */
  findings?(training: Of, spec: JobSpec, signal?: AbortSignal): Promise<ObjectiveFindings>;
}

/** The part of a report that is an objective's own. */
export interface ObjectiveFindings {
  report: Pick<Report, 'preference' | 'labels' | 'groups'>;
  warnings: Fault[];
}

/** A held-out row whose prompt is answered, and what the row says. Without a prompt, it is not answered. */
export interface ScoredRow {
  promptIds: Int32Array;
  referenceIds: Int32Array;
}

/** The parts of a job that say how long its rows may be. */
export interface LimitedJob {
  model: ModelFolder;
  spec: { training: LengthSettings; objective?: JobSpec['objective'] };
}

/** The examples that a job trains and evaluates on. */
export interface SplitsOfJob<Of extends Examples = Examples> {
  model: ModelFolder;
  training: Of;
  validation: Of;
  signal?: AbortSignal | undefined;
}

/** @returns token ids */
export type PromptEncoder = (prompt: SamplePrompt) => Int32Array;

/** A row of any format. */
export type AnyRow = TextualRow | FeaturesRow | PairRow | LabelledRow | GradedPromptRow;

/** The fault of an objective that a job names, for rows that it is not trained on. */
export function refuseObjective({ spec, dataset }: ObjectiveJob): CodedFault[] {
  if (spec.objective === undefined) return [];
  const { kind } = spec.objective;
  const message = `The objective is ${kind}, which is trained on ${objectiveContract(kind).rows}; the dataset has the format ${dataset.format}. Leave objective out, or choose another dataset.`;
  return [{ code: 'invalid_job', message, param: 'objective.kind' }];
}

/**
 * Converts rows to examples: each becomes one, whole. What the codes of an example mean only its objective knows: one
 * sequence with its mask, for instance, or several.
 */
export interface RowConverter<Row extends AnyRow = AnyRow> {
  /**
   * @returns Its example, or what is wrong with the row for this model; the caller adds the line.
   * @throws ProductError of which each is a fault of this row
   */
  convert(row: Row): ConvertedRow | CodedFault[];
  /** An example as the report shows it; null where it has no text. */
  rendered(codes: Int32Array): RenderedRow | null;
}

export interface ConvertedRow {
  codes: Int32Array;
  /** Targets of the loss. */
  trained: number;
  remarks: RowRemark[];
}
