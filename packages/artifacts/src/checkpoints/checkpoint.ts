import type { Evaluation, SampleRound, TrainingOutcome } from '@lorasmith/contracts';
import type { Rollout } from './run-inputs.js';

/** Everything a run needs to continue as if it had not been interrupted. Random numbers follow from seed and step. */
export interface CheckpointState {
  /** Optimizer steps done. */
  step: number;
  /** `[parameters]` each, in the layout of the adapter. */
  parameters: Float32Array;
  /** Bytes where the optimizer keeps its moments in 8 bits. */
  firstMoment: Float32Array | Uint8Array;
  secondMoment: Float32Array | Uint8Array;
  /** One per step done. */
  losses: Float32Array;
  accuracies: Float32Array;
  /** The sampled answers that the next step trains on; null where it samples them. */
  rollout: Rollout | null;
  progress: CheckpointProgress;
}

/** The header of a file: what is known without reading its tensors. */
export interface CheckpointProgress {
  /** Digest of everything that the run depends on, its precision too. Only a checkpoint of the same run is resumed. */
  run: string;
  /** The same part by part, to say why a checkpoint cannot be resumed. */
  parts: Record<string, string>;
  tokens: number;
  trainedTokens: number;
  seconds: number;
  /** Passes over the data so far. */
  epoch: number;
  trainLoss: number;
  evaluationBefore: Evaluation | null;
  /** The evaluation at this step, if there was one. */
  evaluation: Evaluation | null;
  evaluations: EvaluationProgress;
  /** The answers to the job's prompts so far. */
  samples: SampleRound[];
  adapter: CheckpointAdapter;
}

/** How evaluations went so far. */
export interface EvaluationProgress {
  /** The lowest loss of all, and where it was. */
  best: { step: number; evaluation: Evaluation } | null;
  /** The loss that the next ones must be lower than, for early stopping. */
  reference: number | null;
  /** Evaluations since then that were not. */
  withoutGain: number;
}

/** Everything that makes an adapter of the parameters, without the data they were trained on. */
export interface CheckpointAdapter
  extends Pick<TrainingOutcome, 'base_model' | 'dataset' | 'validation_dataset' | 'report'> {
  /** The adapted layers. */
  targets: { name: string; rank: number; scale: number }[];
}
