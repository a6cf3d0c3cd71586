export { chooseKernels, engine, type KernelSet } from '@lorasmith/tensor';
export type { CaseSizes, CaseSubject, CaseTolerance } from '@lorasmith/tensor/numeric-cases';
export { type BaseForm, BaseModelCache, type LeasedBase } from './base-model-cache.js';
export { cardFailure, checkEngineHere, engineError, precisionHere } from './engine-here.js';
export type { AskGrader } from './objectives/group-relative/reward-source.js';
export { type MeasureOptions, measureMachine } from './probe/measure-machine.js';
export { type PublishCheckpointOptions, publishCheckpoint } from './publish-checkpoint.js';
export {
  type ComputedCase,
  computeSelfTest,
  type SelfTestOptions,
  type SelfTestPart,
  type SelfTestValues,
  tryGpu,
} from './self-test.js';
export { openSession, type SessionOptions } from './sessions/open-session.js';
export type { TrainingSession } from './sessions/training-session.js';
export type { StopReason, TextGenerator } from './shared-pass/engine-time.js';
export type { Share } from './shared-pass/fair-shares.js';
export { PassScheduler, type PassSchedulerOptions } from './shared-pass/pass-scheduler.js';
export { train } from './train.js';
export type { TrainOptions } from './train-options.js';
