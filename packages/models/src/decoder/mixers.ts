import type { DecoderArchitecture, Mixer } from '@lorasmith/model-folder';
import type { WeightSource } from '../weight-source.js';
import type { Sublayer } from './block.js';
import { loadGatedDeltaNet } from './gated-delta-net.js';
import { loadLatentAttention } from './latent-attention.js';
import { loadSelfAttention } from './self-attention.js';

type LoadMixer = (source: WeightSource, architecture: DecoderArchitecture, layer: number) => Promise<Sublayer>;

/** The kinds of mixers. To add one, add its sublayer to this folder and a line here. */
const MIXERS: Readonly<Record<Mixer['kind'], LoadMixer>> = {
  attention: loadSelfAttention,
  latent: loadLatentAttention,
  linear: loadGatedDeltaNet,
};

/** Reads the weights of the mixer of a layer. */
export const loadMixer: LoadMixer = async (source, architecture, layer) =>
  await MIXERS[architecture.layers[layer]!.mixer.kind](source, architecture, layer);
