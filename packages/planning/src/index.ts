export { checkRow } from './dataset-row.js';
export { checkEngineSupports } from './engine-support.js';
export { type EngineMemory, engineMemory, logitsPerChunk } from './estimate/engine-memory.js';
export { availableMemory, fewestRecomputed } from './estimate/estimate-job.js';
export {
  decoderMemory,
  jointMemory,
  type MemoryNeeds,
  passBytes,
  SCORES_PER_BLOCK,
} from './estimate/estimate-memory.js';
export {
  type AdapterPasses,
  ATTENTION_BACKWARD,
  adapterPassBytes,
  type DecoderWork,
  secondsPerStep,
  stepWork,
  weightGigabytes,
} from './estimate/estimate-time.js';
export { rolloutLoad, sampleCacheTokens, sampleSeconds } from './estimate/sampling.js';
export { decodedMemory, weightMemory, weightTraffic } from './estimate/weight-memory.js';
export { evaluationBatches } from './evaluation-batches.js';
export {
  type ExampleStore,
  type ExampleStoreOptions,
  openExampleStore,
  type StoredExamples,
} from './example-file/example-store.js';
export type { Examples } from './example-file/examples.js';
export { inheritLora } from './initial-adapter.js';
export { type Line, LineSplitter, MAX_LINE_BYTES, textOfLine } from './jsonl/line-splitter.js';
export { lineTooLong, parseLine } from './jsonl/parse-line.js';
export { learningRateAt } from './learning-rate.js';
export type { FeatureExamples } from './objectives/classification/feature-examples.js';
export { GradedRows } from './objectives/group-relative/graded-rows.js';
export { groupsOf } from './objectives/group-relative/group-relative.js';
export type { PromptExamples } from './objectives/group-relative/prompt-examples.js';
export type { LabelledAnswer, LabelledExamples } from './objectives/labelled/labelled-examples.js';
export { maxTokensOf } from './objectives/next-token/next-token.js';
export { type TokenExamples, trainedOf } from './objectives/next-token/token-examples.js';
export type { ScoredRow } from './objectives/objective.js';
export type { ObjectiveKind } from './objectives/objectives.js';
export type { PairExamples, TokenPair } from './objectives/preference/pair-examples.js';
export { type JobOutline, type OutlineJobOptions, outlineJob } from './outline-job.js';
export { passTokensOf, SHARED_PASS_TOKENS } from './pass-tokens.js';
export { type Plan, type PlanJobOptions, planJob } from './plan-job.js';
export { type ChosenPrecision, choosePrecision, precisionOn } from './precision.js';
export { type PrepareTokensOptions, prepareTokens, storedTokens } from './prepare-examples.js';
export { RowOrder, rowOrderOf } from './row-order.js';
export type { Target } from './target-ranks.js';
export type { TokenizingProgress } from './tokenizing-progress.js';
export { type UsedColumns, usedColumns } from './used-columns.js';
export type { ValidationRows } from './validation-dataset.js';
export { type RowEncoding, type ViewedRows, type ViewRowsOptions, viewRows } from './view-rows.js';
