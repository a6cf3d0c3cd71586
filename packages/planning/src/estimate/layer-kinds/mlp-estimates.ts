import type { DecoderArchitecture, Mlp, MlpOf } from '@lorasmith/model-folder';
import { denseEstimate, denseTransient } from './dense.js';
import type { MlpContext, MlpEstimate } from './mlp-estimate.js';
import { parallelEstimate } from './parallel.js';
import { sparseEstimate } from './sparse.js';

/** The kinds of MLPs. To add one, add a file to this folder and a line here. */
const ESTIMATES: { readonly [Kind in Mlp['kind']]: MlpEstimate<MlpOf<Kind>> } = {
  dense: denseEstimate,
  sparse: sparseEstimate,
  parallel: parallelEstimate,
};

function estimateOf(own: Mlp): MlpEstimate<Mlp> {
  return ESTIMATES[own.kind] as MlpEstimate<Mlp>;
}

/** See {@link MlpEstimate.saved}. */
export function savedByMlp(context: MlpContext, layer: number): number {
  const own = context.architecture.layers[layer]!.mlp;
  return estimateOf(own).saved(own, context, layer);
}

/** See {@link MlpEstimate.transient}: of all layers the most, and never less than of an MLP of the usual width, also where all are sparse. */
export function mlpTransient(context: MlpContext): number {
  const { layers, intermediateSize } = context.architecture;
  // Layers that are alike share their settings.
  const different = [...new Set(layers.map(({ mlp }) => mlp))];
  const ofLayers = different.map((own) => estimateOf(own).transient(own, context));
  return Math.max(denseTransient(intermediateSize, context), ...ofLayers);
}

/** See {@link MlpEstimate.operations}. */
export function mlpOperations(architecture: DecoderArchitecture, layer: number): number {
  const own = architecture.layers[layer]!.mlp;
  return estimateOf(own).operations(own, architecture);
}

/** See {@link MlpEstimate.traffic}: of all layers the mean. */
export function mlpTraffic(architecture: DecoderArchitecture): number {
  const ofLayers = architecture.layers.map(({ mlp: own }) => estimateOf(own).traffic(own, architecture));
  return ofLayers.reduce((sum, bytes) => sum + bytes, 0) / ofLayers.length;
}

/** See {@link MlpEstimate.expertsPerToken}. */
export function expertsPerToken({ layers }: DecoderArchitecture, layer: number): number {
  const own = layers[layer]!.mlp;
  return estimateOf(own).expertsPerToken(own);
}
