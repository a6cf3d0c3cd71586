import type { DecoderArchitecture, DenseMlp } from '@lorasmith/model-folder';
import type { MlpContext, MlpEstimate } from './mlp-estimate.js';

/** The numbers of gate and up, or of up alone. */
export function gateUpWidth({ mlp }: DecoderArchitecture, intermediateSize: number): number {
  return mlp.gated ? 2 * intermediateSize : intermediateSize;
}

/** Bytes that the passes between the products of an MLP read and write for each of its numbers. */
export function trafficPerNumber({ mlp }: DecoderArchitecture): number {
  return mlp.gated ? 18 : 10;
}

/** Bytes of tensors that live within the backward pass of an MLP. */
export function denseTransient(intermediateSize: number, { architecture, engine, width }: MlpContext): number {
  const gateUp = gateUpWidth(architecture, intermediateSize);
  // Gate, up, their activation, its slope and their gradients are float32.
  const copies = engine.fused ? 0 : 4 * (gateUp + 6 * intermediateSize);
  return width * (gateUp + intermediateSize) + copies;
}

export const denseEstimate: MlpEstimate<DenseMlp> = {
  saved: (own, { architecture, width }) => width * gateUpWidth(architecture, widthOf(own, architecture)),

  transient: (own, context) => denseTransient(widthOf(own, context.architecture), context),

  operations: () => 0,

  traffic: (own, architecture) => trafficPerNumber(architecture) * widthOf(own, architecture),

  expertsPerToken: () => 0,
};

function widthOf(own: DenseMlp, { intermediateSize }: DecoderArchitecture): number {
  return own.intermediateSize ?? intermediateSize;
}
