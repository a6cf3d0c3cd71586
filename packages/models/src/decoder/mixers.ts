import type { DecoderArchitecture, Mixer } from '@lorasmith/model-folder';
import type { Listed } from '../loading/listed.js';
import type { WeightList } from '../loading/weight-list.js';
import type { Sublayer } from './block.js';
import { listGatedDeltaNet } from './gated-delta-net.js';
import { listLatentAttention } from './latent-attention.js';
import { listSelfAttention } from './self-attention.js';

type ListMixer = (list: WeightList, architecture: DecoderArchitecture, layer: number) => Listed<Sublayer>;

/** The kinds of mixers. To add one, add its sublayer to this folder and a line here. */
const MIXERS: Readonly<Record<Mixer['kind'], ListMixer>> = {
  attention: listSelfAttention,
  latent: listLatentAttention,
  linear: listGatedDeltaNet,
};

/** The mixer of a layer. */
export const listMixer: ListMixer = (list, architecture, layer) =>
  MIXERS[architecture.layers[layer]!.mixer.kind](list, architecture, layer);
