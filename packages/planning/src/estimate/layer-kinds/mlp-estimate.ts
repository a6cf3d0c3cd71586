import type { DecoderArchitecture, Mlp } from '@lorasmith/model-folder';
import type { MixerContext } from './mixer-estimate.js';

/** The job that the memory of an MLP depends on. */
export type MlpContext = Omit<MixerContext, 'layer'>;

/** A kind of MLP, as estimates need it. Bytes are per token. */
export interface MlpEstimate<Own extends Mlp> {
  /** Bytes kept between forward and backward pass. @param layer the index of its layer */
  saved(own: Own, context: MlpContext, layer: number): number;
  /** Bytes of tensors that live within its backward pass. */
  transient(own: Own, context: MlpContext): number;
  /** Multiply-adds of a token, without those of linear layers. */
  operations(own: Own, architecture: DecoderArchitecture): number;
  /** Bytes that element-wise ops read and write, forward and backward, without those of the norm of its input. */
  traffic(own: Own, architecture: DecoderArchitecture): number;
  /** The experts that a token passes. */
  expertsPerToken(own: Own): number;
}
