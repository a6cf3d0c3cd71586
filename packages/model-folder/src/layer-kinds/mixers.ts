import type {
  DecoderArchitecture,
  LatentAttention,
  LayerAttention,
  LinearAttention,
  Mixer,
  ScoredAttention,
} from '../architecture.js';
import type { DecoderNames } from '../decoder-names.js';
import type { LinearLayer } from '../families/family.js';

/** The linear layers of a mixer. */
export interface MixerLinears {
  /** The layers that read the mixer's input, in the order in which they are stacked. */
  inputs: LinearLayer[];
  /** The layers between those and the output, in the order of a pass. Each has an input of its own. */
  between: LinearLayer[];
  output: LinearLayer;
}

/** The constructors of the linear layers of one decoder layer. Paths are relative to it. */
export interface LinearMaker {
  linear(path: string, inFeatures: number, outFeatures: number, hasBias: boolean): LinearLayer;
  /** Layers that read the hidden state. A single path is fused: its layer has the rows of all parts. */
  stacked(paths: readonly string[], outFeatures: readonly number[], hasBias: boolean): LinearLayer[];
}

/** A tensor of a mixer that is of no linear layer. */
interface MixerTensor {
  /** Relative to the decoder layer; of a norm the module path. */
  path: string;
  shape: number[];
  /** @defaultValue false */
  isNorm?: true;
}

/** A kind of mixer, as layouts and generation need it. `own` is the mixer of the layer that they ask about. */
interface MixerKind<Own extends Mixer> {
  linears(own: Own, architecture: DecoderArchitecture, make: LinearMaker): MixerLinears;
  /** The tensors besides those of the linear layers. */
  tensors(own: Own, architecture: DecoderArchitecture): MixerTensor[];
  /** The numbers of a token's keys and values that generation keeps; 0: it keeps none of this layer. */
  keyValueNumbers(own: Own, architecture: DecoderArchitecture): number;
  /** Bytes of the states of a text that generation keeps. */
  stateBytes(own: Own, bytesPerNumber: number): number;
  /** The numbers of a head that its rotary settings are of. */
  rotaryDim(own: Own, architecture: DecoderArchitecture): number;
  /** Tensors that are rounded to the computing type on the way, beyond those of attention. */
  roundings(own: Own): number;
}

/** The heads of a layer's keys and values. */
interface LayerHeads {
  keyValueHeadCount: number;
  headDim: number;
}

/** The heads of a layer with this attention. */
function attentionHeads(own: LayerAttention, usual: LayerHeads): LayerHeads {
  return {
    keyValueHeadCount: own.keyValueHeadCount ?? usual.keyValueHeadCount,
    headDim: own.headDim ?? usual.headDim,
  };
}

const attentionKind: MixerKind<LayerAttention> = {
  linears(own, architecture, { linear, stacked }) {
    const { names, headCount, hiddenSize, attention, bias } = architecture;
    const { keyValueHeadCount, headDim } = attentionHeads(own, architecture);
    const attended = headCount * headDim;
    const query = attention.outputGate === null ? attended : 2 * attended;
    const keyValue = keyValueHeadCount * headDim;
    const { keysAreValues = false, keysAndValuesOf } = own;
    const ofKeys = keysAreValues ? [keyValue] : [keyValue, keyValue];
    const sizes = keysAndValuesOf === undefined ? [query, ...ofKeys] : [query];
    const isFused = names.queryKeyValue.length === 1;
    const paths = isFused ? names.queryKeyValue : names.queryKeyValue.slice(0, sizes.length);
    return {
      inputs: stacked(paths, sizes, bias.queryKeyValue),
      between: [],
      output: linear(names.attentionOutput, attended, hiddenSize, bias.attentionOutput),
    };
  },

  tensors(own, architecture) {
    const { names, headCount, attention } = architecture;
    const { keyValueHeadCount, headDim } = attentionHeads(own, architecture);
    const ofHead = attention.queryKeyNorm === 'head';
    const normOf = (path: string | null, heads: number): MixerTensor[] =>
      path === null ? [] : [{ path, shape: [ofHead ? headDim : heads * headDim], isNorm: true }];
    return [
      ...(names.sinks === null ? [] : [{ path: names.sinks, shape: [headCount] }]),
      ...normOf(names.queryNorm, headCount),
      ...normOf(own.keysAndValuesOf === undefined ? names.keyNorm : null, keyValueHeadCount),
    ];
  },

  keyValueNumbers(own, architecture) {
    if (own.keysAndValuesOf !== undefined) return 0;
    const { keyValueHeadCount, headDim } = attentionHeads(own, architecture);
    return 2 * keyValueHeadCount * headDim;
  },

  stateBytes: () => 0,

  rotaryDim: (own, architecture) => attentionHeads(own, architecture).headDim,

  roundings: () => 0,
};

const latentKind: MixerKind<LatentAttention> = {
  linears(own, { names, headCount, hiddenSize, bias }, { linear, stacked }) {
    const { queryRank, keyValueRank, plainDim, rotaryDim, valueDim } = own;
    const { query, keyValue } = names.latentAttention!;
    const queries = headCount * (plainDim + rotaryDim);
    const ofKeyValue = linear(keyValue.projection, keyValueRank, headCount * (plainDim + valueDim), false);
    return {
      inputs: stacked(names.queryKeyValue, [queryRank ?? queries, keyValueRank + rotaryDim], bias.queryKeyValue),
      between: queryRank === null ? [ofKeyValue] : [linear(query!.projection, queryRank, queries, false), ofKeyValue],
      output: linear(names.attentionOutput, headCount * valueDim, hiddenSize, bias.attentionOutput),
    };
  },

  tensors({ queryRank, keyValueRank }, { names }) {
    const { query, keyValue } = names.latentAttention!;
    const normOf = (path: string, size: number): MixerTensor => ({ path, shape: [size], isNorm: true });
    const ofKeyValue = normOf(keyValue.norm, keyValueRank);
    return queryRank === null ? [ofKeyValue] : [normOf(query!.norm, queryRank), ofKeyValue];
  },

  keyValueNumbers: (_, { keyValueHeadCount, headDim }) => 2 * keyValueHeadCount * headDim,

  stateBytes: () => 0,

  rotaryDim: ({ rotaryDim }) => rotaryDim,

  /** The latents and what is projected of each. */
  roundings: ({ queryRank }) => (queryRank === null ? 2 : 4),
};

/** The numbers of a token in linear attention: what the convolution reads (queries, keys, values), and the values of all heads. */
export function linearAttentionSizes(
  own: Pick<LinearAttention, 'keyHeadCount' | 'keyHeadDim' | 'valueHeadCount' | 'valueHeadDim'>,
): { mixed: number; values: number } {
  const { keyHeadCount, keyHeadDim, valueHeadCount, valueHeadDim } = own;
  const values = valueHeadCount * valueHeadDim;
  return { mixed: 2 * keyHeadCount * keyHeadDim + values, values };
}

/**
 * True if the projections of linear attention are two, whose numbers are grouped by key head: each head's query, key, values and gates,
 * and its β and decays.
 */
export function isByKeyHead({ linearAttention }: DecoderNames): boolean {
  return linearAttention?.inputs.length === 2;
}

const linearKind: MixerKind<LinearAttention> = {
  linears(own, { names, hiddenSize }, { linear, stacked }) {
    const paths = names.linearAttention!;
    const { mixed, values } = linearAttentionSizes(own);
    const { valueHeadCount: heads } = own;
    const sizes = isByKeyHead(names) ? [mixed + values, 2 * heads] : [mixed, values, heads, heads];
    return {
      inputs: stacked(paths.inputs, sizes, false),
      between: [],
      output: linear(paths.output, values, hiddenSize, false),
    };
  },

  tensors(own, { names }) {
    const paths = names.linearAttention!;
    return [
      { path: `${paths.convolution}.weight`, shape: [linearAttentionSizes(own).mixed, 1, own.convolutionTaps] },
      { path: paths.decayLog, shape: [own.valueHeadCount] },
      { path: paths.timeStepBias, shape: [own.valueHeadCount] },
      { path: `${paths.norm}.weight`, shape: [own.valueHeadDim] },
    ];
  },

  keyValueNumbers: () => 0,

  /** A float32 state of each head, and what the convolution still reads. */
  stateBytes(own, bytesPerNumber) {
    const state = 4 * own.valueHeadCount * own.keyHeadDim * own.valueHeadDim;
    return state + bytesPerNumber * (own.convolutionTaps - 1) * linearAttentionSizes(own).mixed;
  },

  /** It has no positions; this is the size of a head in the other layers. */
  rotaryDim: (_, { headDim }) => headDim,

  roundings: () => 0,
};

/** The mixers of one kind. */
export type MixerOf<Kind extends Mixer['kind']> = Extract<Mixer, { kind: Kind }>;

/** The kinds of mixers. To add one, describe it in architecture.ts and above, and add a line here. */
const KINDS: { readonly [Kind in Mixer['kind']]: MixerKind<MixerOf<Kind>> } = {
  attention: attentionKind,
  latent: latentKind,
  linear: linearKind,
};

function mixerIn(
  { layers }: Pick<DecoderArchitecture, 'layers'>,
  layer: number,
): { own: Mixer; kind: MixerKind<Mixer> } {
  const own = layers[layer]!.mixer;
  return { own, kind: KINDS[own.kind] as MixerKind<Mixer> };
}

/** True of attention by scores of queries and keys. */
export function hasScores(mixer: Mixer): mixer is Extract<Mixer, ScoredAttention> {
  return 'scale' in mixer;
}

/** The mixers of this kind, in the order of their layers. */
export function mixersOf<Kind extends Mixer['kind']>(
  { layers }: Pick<DecoderArchitecture, 'layers'>,
  kind: Kind,
): MixerOf<Kind>[] {
  return layers.map(({ mixer }) => mixer).filter((mixer): mixer is MixerOf<Kind> => mixer.kind === kind);
}

/** The mixer of a layer that is known to have one of this kind. */
export function mixerOf<Kind extends Mixer['kind']>(
  { layers }: Pick<DecoderArchitecture, 'layers'>,
  layer: number,
  kind: Kind,
): MixerOf<Kind> {
  const { mixer } = layers[layer]!;
  if (mixer.kind !== kind) throw new Error(`the mixer of layer ${layer} is ${mixer.kind}, not ${kind}`);
  return mixer as MixerOf<Kind>;
}

/** The heads of a layer; those of the architecture where its mixer has none of its own. */
export function headsOf(architecture: DecoderArchitecture, layer: number): LayerHeads {
  const { keyValueHeadCount, headDim, layers } = architecture;
  const { mixer } = layers[layer]!;
  return mixer.kind === 'attention' ? attentionHeads(mixer, architecture) : { keyValueHeadCount, headDim };
}

/** The linear layers of a layer's mixer. */
export function mixerLinears(architecture: DecoderArchitecture, layer: number, make: LinearMaker): MixerLinears {
  const { own, kind } = mixerIn(architecture, layer);
  return kind.linears(own, architecture, make);
}

/** The tensors of a layer's mixer besides its linear layers. */
export function mixerTensors(architecture: DecoderArchitecture, layer: number): MixerTensor[] {
  const { own, kind } = mixerIn(architecture, layer);
  return kind.tensors(own, architecture);
}

/** The numbers of a head that the rotary settings of a layer are of. */
export function rotaryDimOf(architecture: DecoderArchitecture, layer: number): number {
  const { own, kind } = mixerIn(architecture, layer);
  return kind.rotaryDim(own, architecture);
}

/** The layers whose keys and values generation keeps. */
export function layersWithKeys(architecture: DecoderArchitecture): number[] {
  return keyValueNumbersByLayer(architecture).flatMap((numbers, layer) => (numbers === 0 ? [] : [layer]));
}

/** The numbers of a token's keys and values, of all layers that generation keeps them of. */
export function keyValueNumbers(architecture: DecoderArchitecture): number {
  return keyValueNumbersByLayer(architecture).reduce((sum, numbers) => sum + numbers, 0);
}

function keyValueNumbersByLayer(architecture: DecoderArchitecture): number[] {
  return architecture.layers.map((_, layer) => {
    const { own, kind } = mixerIn(architecture, layer);
    return kind.keyValueNumbers(own, architecture);
  });
}

/** Bytes of the states that generation keeps of a text, in all layers. */
export function stateBytesPerText(architecture: DecoderArchitecture, bytesPerNumber: number): number {
  return architecture.layers.reduce((sum, _, layer) => {
    const { own, kind } = mixerIn(architecture, layer);
    return sum + kind.stateBytes(own, bytesPerNumber);
  }, 0);
}

/** Tensors that are rounded on the way through a mixer, beyond those of attention: of all layers the most. */
export function mixerRoundings(architecture: DecoderArchitecture): number {
  const ofLayers = architecture.layers.map((_, layer) => {
    const { own, kind } = mixerIn(architecture, layer);
    return kind.roundings(own);
  });
  return Math.max(...ofLayers);
}
