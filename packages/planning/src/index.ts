export {
  type AskedPrompt,
  type AskedRow,
  answersByPrompt,
  drawAskedRows,
  hasPrompts,
  promptKey,
  textOfTurn,
  type UnaskedRow,
} from './asked-rows.js';
export { checkRow, type UsedColumns, usedColumns } from './dataset-row.js';
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
  adapterTraffic,
  type DecoderWork,
  secondsPerStep,
  stepWork,
  weightGigabytes,
} from './estimate/estimate-time.js';
export { rolloutLoad, sampleCacheTokens, sampleSeconds } from './estimate/sampling.js';
export { decodedMemory, weightMemory, weightTraffic } from './estimate/weight-memory.js';
export {
  type ExampleStore,
  type ExampleStoreOptions,
  openExampleStore,
  type StoredExamples,
} from './example-file/example-store.js';
export type { Examples } from './example-file/examples.js';
export { inheritLora } from './initial-adapter.js';
export { type Line, LineSplitter, lineTooLong, MAX_LINE_BYTES, parseLine, textOfLine } from './json-lines.js';
export {
  type ChosenPrecision,
  checkEngineSupports,
  choosePrecision,
  passTokensOf,
  precisionOn,
  SHARED_PASS_TOKENS,
} from './machine-settings.js';
export type { FeatureExamples } from './objectives/classification/classification.js';
export { GradedRows } from './objectives/group-relative/graded-rows.js';
export { groupsOf } from './objectives/group-relative/group-relative.js';
export type { PromptExamples } from './objectives/group-relative/prompt-rows.js';
export type { LabelledAnswer, LabelledExamples } from './objectives/labelled/labelled.js';
export { maxTokensOf } from './objectives/next-token/next-token.js';
export { type TokenExamples, trainedOf } from './objectives/next-token/token-examples.js';
export type { ScoredRow } from './objectives/objective.js';
export type { ObjectiveKind } from './objectives/objectives.js';
export type { PairExamples, TokenPair } from './objectives/preference/pair-rows.js';
export { type Plan, type PlanJobOptions, planJob } from './plan-job.js';
export { type PlanSessionOptions, planSession, type SessionPlan } from './plan-session.js';
export { type PlanInputs, type PlanWithoutRows, planWithoutRows } from './plan-without-rows.js';
export { type PrepareTokensOptions, prepareTokens, storedTokens } from './prepare-examples.js';
export type { TokenizingProgress } from './row-conversion/convert-rows.js';
export { evaluationBatches, RowOrder, rowOrderOf } from './row-order.js';
export { learningRateAt } from './schedule.js';
export type { Target } from './targets.js';
export type { ValidationRows } from './validation-dataset.js';
export { type RowEncoding, type ViewedRows, type ViewRowsOptions, viewRows } from './view-rows.js';
