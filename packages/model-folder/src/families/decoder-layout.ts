import type { DecoderArchitecture, DecoderNames, LinearAttention, LinearAttentionNames } from '../architecture.js';
import { type LinearLayer, linearTensors, type ModelLayout, type RequiredTensor } from './family.js';

/** The linear layers of one decoder layer. Those with the same input are in the order in which they are stacked. */
export interface LayerLinears {
  /** The layers that attention, or linear attention, reads its input with. */
  attentionInputs: LinearLayer[];
  attentionOutput: LinearLayer;
  gateUp: LinearLayer[];
  down: LinearLayer;
}

/** The numbers of a token in linear attention: what the convolution reads (queries, keys, values), and the values of all heads. */
export function linearAttentionSizes(own: LinearAttention): { mixed: number; values: number } {
  const { keyHeadCount, keyHeadDim, valueHeadCount, valueHeadDim } = own;
  const values = valueHeadCount * valueHeadDim;
  return { mixed: 2 * keyHeadCount * keyHeadDim + values, values };
}

/** Whether a layer has linear attention in the place of attention. */
export function hasLinearAttention({ linearAttention }: DecoderArchitecture, layer: number): boolean {
  return linearAttention?.layers[layer] ?? false;
}

/** The layers whose keys and values generation keeps. */
export function attentionLayerCount({ layerCount, linearAttention }: DecoderArchitecture): number {
  return layerCount - linearLayerCount(linearAttention);
}

/**
 * Bytes that linear attention keeps of a text during generation: in each layer a float32 state of each head, and what the
 * convolution still reads.
 */
export function stateBytesPerText({ linearAttention: own }: DecoderArchitecture, bytesPerNumber: number): number {
  if (own === null) return 0;
  const state = 4 * own.valueHeadCount * own.keyHeadDim * own.valueHeadDim;
  const tail = bytesPerNumber * (own.convolutionTaps - 1) * linearAttentionSizes(own).mixed;
  return linearLayerCount(own) * (state + tail);
}

function linearLayerCount(own: LinearAttention | null): number {
  return own?.layers.filter((isLinear) => isLinear).length ?? 0;
}

/** The name of a tensor in the weight files; `path` is the module path with `.weight` or `.bias`. */
export function tensorName({ prefixes }: DecoderNames, path: string): string {
  const prefix = prefixes.find(({ modules }) => path.startsWith(modules));
  return prefix === undefined ? path : `${prefix.files}${path.slice(prefix.modules.length)}`;
}

/** The linear layers of the decoder layer with this index. */
export function layerLinears(architecture: DecoderArchitecture, index: number): LayerLinears {
  const {
    names,
    hiddenSize,
    intermediateSize,
    headCount,
    keyValueHeadCount,
    headDim,
    bias,
    mlp,
    attention,
    linearAttention,
  } = architecture;
  const linear = (path: string, inFeatures: number, outFeatures: number, hasBias: boolean): LinearLayer => {
    const name = `${names.layers}.${index}.${path}`;
    return {
      name,
      inFeatures,
      outFeatures,
      weight: tensorName(names, `${name}.weight`),
      bias: hasBias ? tensorName(names, `${name}.bias`) : null,
      transposed: architecture.transposedWeights,
    };
  };
  /** A fused layer has the rows of all its parts. */
  const stacked = (paths: readonly string[], outFeatures: number[], hasBias: boolean) => {
    if (paths.length === outFeatures.length) {
      return paths.map((path, i) => linear(path, hiddenSize, outFeatures[i]!, hasBias));
    }
    const all = outFeatures.reduce((sum, size) => sum + size, 0);
    return [linear(paths[0]!, hiddenSize, all, hasBias)];
  };
  const attended = headCount * headDim;
  const querySize = attention.outputGate === null ? attended : 2 * attended;
  const keyValueSize = keyValueHeadCount * headDim;
  const ofAttention = {
    attentionInputs: stacked(names.queryKeyValue, [querySize, keyValueSize, keyValueSize], bias.queryKeyValue),
    attentionOutput: linear(names.attentionOutput, attended, hiddenSize, bias.attentionOutput),
  };
  const ofLinearAttention = (own: LinearAttention, paths: LinearAttentionNames) => {
    const { mixed, values } = linearAttentionSizes(own);
    return {
      attentionInputs: stacked(paths.inputs, [mixed, values, own.valueHeadCount, own.valueHeadCount], false),
      attentionOutput: linear(paths.output, values, hiddenSize, false),
    };
  };
  return {
    ...(linearAttention !== null && hasLinearAttention(architecture, index)
      ? ofLinearAttention(linearAttention, names.linearAttention!)
      : ofAttention),
    gateUp: stacked(names.gateUp, mlp.gated ? [intermediateSize, intermediateSize] : [intermediateSize], bias.mlp),
    down: linear(names.down, intermediateSize, hiddenSize, bias.mlp),
  };
}

/** The sizes of the norms of queries and keys. */
function queryKeyNormSizes(architecture: DecoderArchitecture): { query: number; key: number } {
  const { headCount, keyValueHeadCount, headDim, attention } = architecture;
  if (attention.queryKeyNorm === 'head') return { query: headDim, key: headDim };
  return { query: headCount * headDim, key: keyValueHeadCount * headDim };
}

/** The tensors of a layer's linear attention beside its linear layers. */
function linearAttentionTensors({ linearAttention, names }: DecoderArchitecture): [path: string, shape: number[]][] {
  const own = linearAttention!;
  const paths = names.linearAttention!;
  return [
    [`${paths.convolution}.weight`, [linearAttentionSizes(own).mixed, 1, own.convolutionTaps]],
    [paths.decayLog, [own.valueHeadCount]],
    [paths.timeStepBias, [own.valueHeadCount]],
    [`${paths.norm}.weight`, [own.valueHeadDim]],
  ];
}

/** The tensors and linear layers of a decoder. */
export function decoderLayout(architecture: DecoderArchitecture): ModelLayout {
  const { names, vocabSize, hiddenSize, layerCount, maxPositions, norm, tiedHead } = architecture;
  const queryKeyNorms = queryKeyNormSizes(architecture);
  const tensors: RequiredTensor[] = [];
  const linears: LinearLayer[] = [];
  const add = (path: string, shape: number[]) => tensors.push({ name: tensorName(names, path), shape });
  const addNorm = (path: string | null, size: number) => {
    if (path === null) return;
    add(`${path}.weight`, [size]);
    if (norm.kind === 'layer') add(`${path}.bias`, [size]);
  };
  add(`${names.embedding}.weight`, [vocabSize, hiddenSize]);
  if (names.positions !== null) add(`${names.positions}.weight`, [maxPositions, hiddenSize]);
  for (let index = 0; index < layerCount; index++) {
    const within = (path: string | null) => path && `${names.layers}.${index}.${path}`;
    addNorm(within(names.attentionNorm), hiddenSize);
    addNorm(within(names.attentionBranchNorm), hiddenSize);
    addNorm(within(names.mlpNorm), hiddenSize);
    addNorm(within(names.mlpBranchNorm), hiddenSize);
    if (hasLinearAttention(architecture, index)) {
      for (const [path, shape] of linearAttentionTensors(architecture)) add(within(path)!, shape);
    } else {
      addNorm(within(names.queryNorm), queryKeyNorms.query);
      addNorm(within(names.keyNorm), queryKeyNorms.key);
    }
    const { attentionInputs, attentionOutput, gateUp, down } = layerLinears(architecture, index);
    const own = [...attentionInputs, attentionOutput, ...gateUp, down];
    tensors.push(...own.flatMap(linearTensors));
    linears.push(...own);
  }
  addNorm(names.finalNorm, hiddenSize);
  const head: LinearLayer = {
    name: names.head,
    inFeatures: hiddenSize,
    outFeatures: vocabSize,
    weight: tensorName(names, `${tiedHead ? names.embedding : names.head}.weight`),
    bias: null,
    transposed: false,
  };
  if (!tiedHead) tensors.push(...linearTensors(head));
  return { tensors, linears, head };
}
