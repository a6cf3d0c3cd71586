import type { AdapterManifest, Evaluation, Report } from '@lorasmith/contracts';

/** Everything a run needs to go on as if it had not been interrupted. Random numbers follow from seed and step. */
export interface Checkpoint {
  /** Optimizer steps done. */
  step: number;
  /** `[parameters]` each, in the layout of the adapter. */
  parameters: Float32Array;
  firstMoment: Float32Array;
  secondMoment: Float32Array;
  /** One per step done. */
  losses: Float32Array;
  progress: CheckpointProgress;
}

/** What a file says in its header, so that it is known without reading its tensors. */
export interface CheckpointProgress {
  /** Of what the run is made, its precision too; a checkpoint of another run is not gone on from. */
  run: string;
  /** The same part by part, to say why a checkpoint does not fit; null in files of an earlier version. */
  parts: Record<string, string> | null;
  tokens: number;
  trainedTokens: number;
  seconds: number;
  /** Passes over the data so far; null in files of the first version, as is all that follows. */
  epoch: number | null;
  trainLoss: number | null;
  evaluationBefore: Evaluation | null;
  /** At this step, if there was one. */
  evaluation: Evaluation | null;
  evaluations: EvaluationProgress | null;
  adapter: CheckpointAdapter | null;
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

/** What makes an adapter of the parameters without the data they were trained on. */
export interface CheckpointAdapter {
  base_model: AdapterManifest['base_model'];
  dataset: NonNullable<AdapterManifest['dataset']>;
  report: Report;
  /** The adapted layers. */
  targets: { name: string; rank: number; scale: number }[];
}
