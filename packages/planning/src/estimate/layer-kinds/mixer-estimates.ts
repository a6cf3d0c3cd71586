import type { DecoderArchitecture, Mixer, MixerOf } from '@lorasmith/model-folder';
import type { LargestPass } from '../batch-load.js';
import { attentionEstimate } from './attention.js';
import { latentEstimate } from './latent.js';
import { linearEstimate } from './linear.js';
import type { MixerContext, MixerEstimate, MixerOperations } from './mixer-estimate.js';

/** The kinds of mixers. To add one, add a file to this folder and a line here. */
const ESTIMATES: { readonly [Kind in Mixer['kind']]: MixerEstimate<MixerOf<Kind>> } = {
  attention: attentionEstimate,
  latent: latentEstimate,
  linear: linearEstimate,
};

function mixerIn({ layers }: DecoderArchitecture, layer: number): { own: Mixer; estimate: MixerEstimate<Mixer> } {
  const own = layers[layer]!.mixer;
  return { own, estimate: ESTIMATES[own.kind] as MixerEstimate<Mixer> };
}

/** See {@link MixerEstimate.saved}. */
export function savedByMixer(context: MixerContext, load: LargestPass): number {
  const { own, estimate } = mixerIn(context.architecture, context.layer);
  return estimate.saved(own, context, load);
}

/** See {@link MixerEstimate.transient}: of all layers the most. */
export function mixerTransient(context: Omit<MixerContext, 'layer'>): number {
  const ofLayers = context.architecture.layers.map((_, layer) => {
    const { own, estimate } = mixerIn(context.architecture, layer);
    return estimate.transient(own, { ...context, layer });
  });
  return Math.max(...ofLayers);
}

/** See {@link MixerEstimate.gradients}. */
export function mixerGradients(context: MixerContext): number {
  const { own, estimate } = mixerIn(context.architecture, context.layer);
  return estimate.gradients(own, context);
}

/** See {@link MixerEstimate.repeated}. */
export function repeatedInMixer(context: MixerContext, load: LargestPass): { kept: number; transient: number } {
  const { own, estimate } = mixerIn(context.architecture, context.layer);
  return estimate.repeated(own, context, load);
}

/** See {@link MixerEstimate.operations}. */
export function mixerOperations(architecture: DecoderArchitecture, layer: number, squares: number): MixerOperations {
  const { own, estimate } = mixerIn(architecture, layer);
  return estimate.operations(own, architecture, squares);
}

/** The first mixer's part that an engine for GPUs has no kernels for; null: it has them for all. */
export function mixerWithoutKernels(architecture: DecoderArchitecture, engine: 'cuda' | 'tensorflow'): string | null {
  const parts = architecture.layers.map((_, layer) => {
    const { own, estimate } = mixerIn(architecture, layer);
    return estimate.withoutKernels(own, engine);
  });
  return parts.find((part) => part !== null) ?? null;
}
