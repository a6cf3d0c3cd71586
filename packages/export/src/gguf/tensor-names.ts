import { type DecoderArchitecture, tensorName } from '@lorasmith/model-folder';
import type { IndexRange, TensorConversion } from '@lorasmith/weight-files';
import type { StackedExperts } from './experts.js';
import { ggufFamily } from './families/gguf-families.js';
import type { LayerPart, RowsOfHeads } from './layer-part.js';
import { mixerParts } from './mixers.js';
import { mlpBiases, mlpExperts, mlpParts } from './mlps.js';

/** A tensor of a base model, and how it is written. */
export interface GgufTensorPlan {
  /** Name in the weight files; of several that of the first. */
  source: string;
  /** Name in GGUF. */
  name: string;
  /** The PEFT module whose weight it is; null for a tensor that is not adapted. */
  module: string | null;
  /** True if llama.cpp applies no adapter to it, or applies it otherwise. */
  withoutAdapter: boolean;
  /** The stored rows that are written, in this order; undefined: all of them. */
  rowOrder: readonly IndexRange[] | undefined;
  /** All stored columns in the order in which they are written; undefined: as they are stored. */
  columnOrder: readonly IndexRange[] | undefined;
  /** The one number of each group of the last axis that is written; undefined: all of them. */
  numberOfEach: TensorConversion['rowOfEach'];
  transposed: boolean;
  /** The rows of each head of which it is made; null: it is one matrix. */
  ofHeads: RowsOfHeads | null;
  /** Rows of a head whose halves are interleaved; 0: the order stays. */
  headRows: number;
  /** Added to every number. */
  added: number;
  /** True if −exp(number) is written. */
  decays: boolean;
  /** The matrices that it is made of, where it has those of all experts of a layer; null: it is made of `source`. */
  experts: StackedExperts | null;
}

/** The number of rows that are written of `stored` ones. */
export function rowCount(rowOrder: readonly IndexRange[] | undefined, stored: number): number {
  return rowOrder?.reduce((sum, { count }) => sum + count, 0) ?? stored;
}

/** A stored tensor as a matrix (of each head, where it has several), and the shape in which it is written. */
export function shapesOf(
  {
    rowOrder,
    headRows,
    transposed,
    numberOfEach,
    ofHeads,
  }: Pick<GgufTensorPlan, 'rowOrder' | 'headRows' | 'transposed' | 'numberOfEach' | 'ofHeads'>,
  stored: readonly number[],
): { matrix: [rows: number, width: number]; written: number[] } {
  if (numberOfEach !== undefined) {
    const all = stored.reduce((product, size) => product * size, 1);
    return { matrix: [all, 1], written: [...stored.slice(0, -1), stored.at(-1)! / numberOfEach.of] };
  }
  if (ofHeads !== null) {
    const [rows, width] = [ofHeads.count, stored[1]!];
    return { matrix: [rows, width], written: [ofHeads.heads, ...(ofHeads.transposed ? [width, rows] : [rows, width])] };
  }
  const count = rowCount(rowOrder, stored[0]!);
  // The numbers of a vector are ordered as the rows of a matrix.
  if (stored.length === 1) {
    const isOrdered = headRows > 0 || rowOrder !== undefined;
    return { matrix: isOrdered ? [stored[0]!, 1] : [1, stored[0]!], written: [count] };
  }
  const width = stored.slice(1).reduce((product, size) => product * size, 1);
  return { matrix: [stored[0]!, width], written: transposed ? [width, count] : [count, width] };
}

/** The names of the parts of a layer, for instance `attn_q`, by the path relative to the layer. */
function layerParts(architecture: DecoderArchitecture, layer: number): LayerPart[] {
  const { family, names } = architecture;
  const norm = (path: string | null, name: string): LayerPart => ({ path, name, isNorm: true });
  return [
    norm(names.attentionNorm, 'attn_norm'),
    ...mixerParts(architecture, layer),
    norm(names.attentionBranchNorm, 'post_attention_norm'),
    norm(names.mlpNorm, ggufFamily(family)?.mlpNorm ?? 'ffn_norm'),
    ...mlpParts(architecture, layer),
    norm(names.mlpBranchNorm, 'post_ffw_norm'),
    { path: names.layerInputs?.gate ?? null, name: 'inp_gate' },
    { path: names.layerInputs?.output ?? null, name: 'proj' },
    norm(names.layerInputs?.branchNorm ?? null, 'post_norm'),
    { path: names.layerScale, name: 'layer_output_scale.weight', isTensor: true },
  ];
}

/**
 * The names of a decoder's tensors as in llama.cpp (gguf-py, `tensor_mapping.py`), and how llama.cpp wants them.
 *
 * @param has - True for a tensor that the architecture has
 */
export function planTensors(architecture: DecoderArchitecture, has: (tensor: string) => boolean): GgufTensorPlan[] {
  const { names, norm, tiedHead, layerCount, layerInputs, vocabSize } = architecture;
  const fusesGateUp = ggufFamily(architecture.family)?.experts?.fusesGateUp ?? false;
  const plans: GgufTensorPlan[] = [];
  const unchanged = {
    module: null,
    withoutAdapter: false,
    rowOrder: undefined,
    columnOrder: undefined,
    numberOfEach: undefined,
    transposed: false,
    ofHeads: null,
    headRows: 0,
    added: 0,
    decays: false,
    experts: null,
  };
  const add = (path: string | null, name: string, how: Partial<GgufTensorPlan> = {}) => {
    if (path === null) return;
    for (const kind of ['weight', 'bias']) {
      const source = tensorName(names, `${path}.${kind}`);
      if (!has(source)) continue;
      const plan = { source, name: `${name}.${kind}`, ...unchanged, ...how };
      plans.push(kind === 'weight' ? plan : { ...plan, module: null, transposed: false, added: 0 });
    }
  };
  const ofNorm = { added: norm.weightOffset };
  add(names.embedding, 'token_embd');
  add(names.positions, 'position_embd');
  if (layerInputs !== null) {
    const paths = names.layerInputs!;
    // llama.cpp has as many rows as tokens.
    const hasMore = layerInputs.vocabSize > vocabSize;
    add(paths.embedding, 'per_layer_token_embd', hasMore ? { rowOrder: [{ first: 0, count: vocabSize }] } : {});
    add(paths.projection, 'per_layer_model_proj', { module: paths.projection, withoutAdapter: true });
    add(paths.norm, 'per_layer_proj_norm', ofNorm);
  }
  for (let layer = 0; layer < layerCount; layer++) {
    for (const part of layerParts(architecture, layer)) {
      const { path, isTensor = false, isNorm = false, decays = false, rowOrder, columnOrder } = part;
      const { ofHeads = null, withoutAdapter = false } = part;
      if (path === null) continue;
      const module = `${names.layers}.${layer}.${path}`;
      const name = `blk.${layer}.${part.name}`;
      if (isTensor) {
        plans.push({ source: tensorName(names, module), name, ...unchanged, rowOrder, decays });
        continue;
      }
      const { transposedWeights: transposed } = architecture;
      const order = { rowOrder, columnOrder, transposed, ofHeads, headRows: headRows(architecture, part.name) };
      const linear = { module, withoutAdapter, ...order };
      add(module, name, isNorm ? ofNorm : linear);
    }
    for (const { name, ...tensor } of mlpBiases(architecture, layer)) {
      plans.push({ ...unchanged, ...tensor, name: `blk.${layer}.${name}` });
    }
    for (const experts of mlpExperts(architecture, layer, fusesGateUp)) {
      const { source } = experts.matrices[0]!;
      const { parameter: module, rowOrder, withoutAdapter } = experts;
      const name = `blk.${layer}.${experts.name}.weight`;
      plans.push({ ...unchanged, source, name, module, withoutAdapter, rowOrder, experts });
    }
  }
  add(names.finalNorm, 'output_norm', ofNorm);
  if (!tiedHead) add(names.head, 'output', { module: names.head });
  return plans;
}

function headRows({ family, headDim }: DecoderArchitecture, part: string): number {
  const isRotated = part === 'attn_q' || part === 'attn_k';
  return ggufFamily(family)?.adjacentPairs && isRotated ? headDim : 0;
}
