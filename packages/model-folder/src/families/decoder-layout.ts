import type { DecoderArchitecture, DecoderNames } from '../architecture.js';
import { type LinearLayer, linearTensors, type ModelLayout, type RequiredTensor } from './family.js';

/** The linear layers of one decoder layer. Those with the same input are in the order in which they are stacked. */
export interface LayerLinears {
  queryKeyValue: LinearLayer[];
  attentionOutput: LinearLayer;
  gateUp: LinearLayer[];
  down: LinearLayer;
}

/** The name of a tensor in the weight files; `path` is the module path with `.weight` or `.bias`. */
export function tensorName({ prefixes }: DecoderNames, path: string): string {
  const prefix = prefixes.find(({ modules }) => path.startsWith(modules));
  return prefix === undefined ? path : `${prefix.files}${path.slice(prefix.modules.length)}`;
}

/** The linear layers of the decoder layer with this index. */
export function layerLinears(architecture: DecoderArchitecture, index: number): LayerLinears {
  const { names, hiddenSize, intermediateSize, headCount, keyValueHeadCount, headDim, bias, mlp } = architecture;
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
  const querySize = headCount * headDim;
  const keyValueSize = keyValueHeadCount * headDim;
  return {
    queryKeyValue: stacked(names.queryKeyValue, [querySize, keyValueSize, keyValueSize], bias.queryKeyValue),
    attentionOutput: linear(names.attentionOutput, querySize, hiddenSize, bias.attentionOutput),
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
    addNorm(within(names.queryNorm), queryKeyNorms.query);
    addNorm(within(names.keyNorm), queryKeyNorms.key);
    const { queryKeyValue, attentionOutput, gateUp, down } = layerLinears(architecture, index);
    const own = [...queryKeyValue, attentionOutput, ...gateUp, down];
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
