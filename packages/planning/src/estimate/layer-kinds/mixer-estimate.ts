import type { DecoderArchitecture, Mixer } from '@lorasmith/model-folder';
import type { Target } from '../../targets.js';
import type { LargestPass } from '../batch-load.js';
import type { EngineMemory } from '../engine-memory.js';

/** The layer and the job that the memory of a mixer depends on, in addition to its settings. */
export interface MixerContext {
  architecture: DecoderArchitecture;
  /** The index of its layer. */
  layer: number;
  targets: readonly Target[];
  engine: EngineMemory;
  /** Bytes of a number in the computing type. */
  width: number;
}

/** The work of a mixer, in the unit of scores: a score takes headDim multiply-adds, its use as many. */
export interface MixerOperations {
  /** Multiply-adds of the scores of all rows. */
  scores: number;
  /** Multiply-adds of a token in the states of linear attention. */
  states: number;
}

/** A kind of mixer, as estimates need it. Bytes are per token, except where it says otherwise. */
export interface MixerEstimate<Own extends Mixer> {
  /** Bytes kept between forward and backward pass. */
  saved(own: Own, context: MixerContext, load: LargestPass): number;
  /** Bytes of tensors that live within its backward pass, while all that the layer has kept is in memory. */
  transient(own: Own, context: MixerContext): number;
  /** Bytes of the gradients within its backward pass, less what it has kept and freed by then. */
  gradients(own: Own, context: MixerContext): number;
  /** Extra bytes of rows with a shared prompt: `kept` of all rows between forward and backward pass, `transient` of a token within the backward pass. */
  repeated(own: Own, context: MixerContext, load: LargestPass): { kept: number; transient: number };
  /** @param squares the sum of the squared lengths of all rows */
  operations(own: Own, architecture: DecoderArchitecture, squares: number): MixerOperations;
  /** The part that an engine for GPUs has no kernels for; null: it has them for all. */
  withoutKernels(own: Own, engine: 'cuda' | 'tensorflow'): string | null;
}

/** True if layers with this name are adapted. */
export function isAdapted({ targets }: Pick<MixerContext, 'targets'>, path: string): boolean {
  return targets.some(({ name }) => name.endsWith(`.${path}`));
}
