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
import type { ExampleRecord, RowCounts } from '../example-file/example-format.js';
import type { ExampleSource, Examples } from '../example-file/examples.js';
import type { CodedFault, FaultList } from '../fault-list.js';
import type { RemarkCount, RowRemark } from '../row-conversion/remarks.js';
import type { ExampleLoad, NamedObjective } from './example-load.js';
import type { GradedRows } from './group-relative/graded-rows.js';
import type { LengthLimit, LengthSettings, RowView } from './next-token/length-limit.js';

/** A fault within one row; the reader of the file adds the line. */
export type RowFault = Fault & { code: ErrorCode };

/** More add nothing about one row, and a list of a million wrong numbers must not become a million faults. */
export const MAX_FAULTS_PER_ROW = 8;

/** One shape that a row can have, recognized by its keys. */
export interface RowFormat {
  name: DatasetFormat;
  /** Keys that no other format has. */
  tellingKeys: readonly string[];
  /** Keys of which one has to be beside them. @defaultValue none */
  besideKeys?: readonly string[];
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
  checkTargets?(sides: SidesOfJob<Of>, faults: FaultList): Promise<void>;
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
export interface SidesOfJob<Of extends Examples = Examples> {
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
