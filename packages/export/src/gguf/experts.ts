import {
  type DecoderArchitecture,
  type ExpertParameter,
  type Experts,
  expertParameters,
  expertTensors,
  fusedTensorNames,
  hasExperts,
  type ParallelMlp,
  parallelMlpNames,
  type SparseMlp,
} from '@lorasmith/model-folder';
import type { IndexRange, TensorConversion } from '@lorasmith/weight-files';
import type { GgufFamily } from './families/gguf-family.js';
import type { LayerPart, LayerTensor } from './layer-part.js';
import { bool, float, type RefuseIf, type Setting, uint } from './metadata-setting.js';

/** One expert's matrix in the weight files. */
export interface ExpertMatrix {
  /** Name of the tensor. */
  source: string;
  /** Its index among the experts that the tensor has. */
  index: number;
  /** The experts that the tensor has. */
  count: number;
  /** The rows of the expert that are written; undefined: all of them. */
  rowOrder: readonly IndexRange[] | undefined;
}

/** Matrices of all experts of a layer, which llama.cpp has in one tensor (`torch.stack` in `Qwen2MoeModel.modify_tensors`). */
export interface StackedExperts {
  name: string;
  /** The parameter that it is of, as adapters name it. */
  parameter: string;
  /** `[experts, rows, width]` as written. */
  shape: [experts: number, rows: number, width: number];
  /** The matrices of each expert, one behind the other: one, or that of gate and that of up. */
  matrices: ExpertMatrix[];
  /** The rows of the parameter that it has; undefined: all of them. */
  rowOrder: readonly IndexRange[] | undefined;
  /** The one row of each group of the parameter's that it has; undefined: all of them. */
  rowOfEach: TensorConversion['rowOfEach'];
  /** True if the files have the matrices as `[width, rows]`, or, in MXFP4, decode them so. */
  transposed: boolean;
  /** True if llama.cpp would apply an adapter otherwise than the model does. */
  withoutAdapter: boolean;
}

/** An MLP with experts. */
type WithExperts = SparseMlp | ParallelMlp;

/**
 * Gate, up and down of the experts of a layer.
 *
 * @param fusesGateUp - True if gate and up are one tensor
 */
export function stackedExperts(
  { experts }: WithExperts,
  architecture: DecoderArchitecture,
  layer: number,
  fusesGateUp: boolean,
): StackedExperts[] {
  const { hiddenSize } = architecture;
  const { count, intermediateSize, files } = experts;
  const [gateUp, down] = expertParameters(architecture, layer);
  const [ofGateUp, ofDown] = fusedTensorNames(architecture, layer);
  const isEach = files === 'each';
  type Rows = Pick<StackedExperts, 'rowOrder' | 'rowOfEach'>;
  const all: Rows = { rowOrder: undefined, rowOfEach: undefined };
  const stacked = (
    name: string,
    { name: parameter, transposed = false }: ExpertParameter,
    shape: [rows: number, width: number],
    { rowOrder, rowOfEach }: Rows,
    sourceOf: (expert: number) => string,
  ): StackedExperts => {
    const matrices = Array.from({ length: count }, (_, expert) =>
      isEach
        ? { source: sourceOf(expert), index: 0, count: 1, rowOrder: undefined }
        : { source: sourceOf(expert), index: expert, count, rowOrder },
    );
    const withoutAdapter = false;
    return { name, parameter, shape: [count, ...shape], matrices, rowOrder, rowOfEach, transposed, withoutAdapter };
  };
  const half = (index: 0 | 1, name: string) => {
    // Where matrices are transposed, gate and up of each unit are next to each other.
    const rows = gateUp.transposed
      ? { ...all, rowOfEach: { index, of: 2 } }
      : { ...all, rowOrder: [{ first: index * intermediateSize, count: intermediateSize }] };
    const sourceOf = (expert: number) => (isEach ? gateUp.tensors[2 * expert + index]!.name : ofGateUp);
    return stacked(name, gateUp, [intermediateSize, hiddenSize], rows, sourceOf);
  };
  const [gate, up] = [half(0, 'ffn_gate_exps'), half(1, 'ffn_up_exps')];
  const last = stacked('ffn_down_exps', down, [hiddenSize, intermediateSize], all, (expert) =>
    isEach ? down.tensors[expert]!.name : ofDown,
  );
  if (!fusesGateUp) return [gate, up, last];
  const matrices = gate.matrices.flatMap((matrix, expert) => [matrix, up.matrices[expert]!]);
  const shape: StackedExperts['shape'] = [count, 2 * intermediateSize, hiddenSize];
  return [{ ...gate, ...all, name: 'ffn_gate_up_exps', shape, matrices }, last];
}

/** The biases of the experts of a layer; nothing for experts without. */
export function expertBiases(_: WithExperts, architecture: DecoderArchitecture, layer: number): LayerTensor[] {
  const { biases } = expertTensors(architecture, layer);
  if (biases === null) return [];
  return [
    { source: biases.gateUp.name, name: 'ffn_gate_exps.bias', numberOfEach: { index: 0, of: 2 } },
    { source: biases.gateUp.name, name: 'ffn_up_exps.bias', numberOfEach: { index: 1, of: 2 } },
    { source: biases.down.name, name: 'ffn_down_exps.bias', numberOfEach: undefined },
  ];
}

/** The router of a layer, and the expert that all tokens pass. */
export function sparseParts(own: SparseMlp, { names }: DecoderArchitecture): LayerPart[] {
  const { router, shared, correction } = names.experts!;
  const ofRouter: LayerPart[] = [
    { path: router, name: 'ffn_gate_inp' },
    { path: correction, name: 'exp_probs_b.bias', isTensor: true },
  ];
  if (shared === null) return ofRouter;
  const [first, second] = shared.gateUp;
  const width = own.experts.shared!.intermediateSize;
  const halves = ['ffn_gate_shexp', 'ffn_up_shexp'] as const;
  const gateUp =
    second === undefined
      ? halves.map((name, half) => ({ path: first!, name, rowOrder: [{ first: half * width, count: width }] }))
      : halves.map((name, half) => ({ path: shared.gateUp[half]!, name }));
  return [
    ...ofRouter,
    ...gateUp,
    { path: shared.down, name: 'ffn_down_shexp' },
    { path: shared.gate, name: 'ffn_gate_inp_shexp' },
  ];
}

/** The router of experts that are parallel to an MLP, their norms and that MLP's, the weights of the router's norm, and the scales of experts. */
export function parallelParts(_: ParallelMlp, architecture: DecoderArchitecture): LayerPart[] {
  const parallel = parallelMlpNames(architecture);
  return [
    { path: architecture.names.experts!.router, name: 'ffn_gate_inp' },
    { path: parallel.norm, name: 'pre_ffw_norm_2', isNorm: true },
    { path: parallel.branchNorm, name: 'post_ffw_norm_2', isNorm: true },
    { path: parallel.mlpBranchNorm, name: 'post_ffw_norm_1', isNorm: true },
    { path: parallel.routerScale, name: 'ffn_gate_inp.scale', isTensor: true },
    { path: parallel.expertScales, name: 'ffn_down_exps.scale', isTensor: true },
  ];
}

/** True if a tensor is kept in float32, as in llama.cpp's converter. */
export function isRouter(name: string): boolean {
  return /\.ffn_gate_inp(_shexp)?\.weight$/.test(name);
}

/** `llama_expert_gating_func_type` */
const SOFTMAX = 1;
const SIGMOID = 2;

/** The settings of experts behind dense layers, with an expert that all tokens pass. A router that scores by sigmoid has groups. */
export function routedExpertSettings(architecture: DecoderArchitecture): Setting[] {
  const { intermediateSize, renormalized, sigmoid, shared } = expertsIn(architecture)!;
  const { groups, groupsPerToken, scale } = sigmoid ?? { groups: 1, groupsPerToken: 1, scale: 1 };
  return [
    ['expert_shared_count', uint(shared!.intermediateSize / intermediateSize)],
    ['leading_dense_block_count', uint(firstSparse(architecture))],
    ['expert_gating_func', uint(sigmoid === undefined ? SOFTMAX : SIGMOID)],
    ['expert_weights_scale', float(scale)],
    ['expert_weights_norm', bool(renormalized)],
    ['expert_group_count', uint(groups)],
    ['expert_group_used_count', uint(groupsPerToken)],
  ];
}

/** The settings of experts, in addition to those of every decoder. */
export function expertSettings(architecture: DecoderArchitecture): Setting[] {
  const experts = expertsIn(architecture);
  if (experts === undefined) return [];
  const { count, perToken, intermediateSize, shared } = experts;
  return [
    ['expert_count', uint(count)],
    ['expert_used_count', uint(perToken)],
    ['expert_feed_forward_length', uint(intermediateSize)],
    ...(shared === null ? [] : [['expert_shared_feed_forward_length', uint(shared.intermediateSize)] as Setting]),
  ];
}

/** The experts of a model, which are alike in all layers; undefined: it has none. */
export function expertsIn({ layers }: DecoderArchitecture): Experts | undefined {
  return layers.map(({ mlp }) => mlp).find(hasExperts)?.experts;
}

/** The index of the first layer with experts; -1: there is none. */
export function firstSparse({ layers }: DecoderArchitecture): number {
  return layers.findIndex(({ mlp }) => hasExperts(mlp));
}

/** Checks that the layers have experts that llama.cpp computes. */
export function checkExperts(
  architecture: DecoderArchitecture,
  { renormalized, firstDense = false, optional = false }: NonNullable<GgufFamily['experts']>,
  refuseIf: RefuseIf,
): void {
  const experts = expertsIn(architecture);
  refuseIf(experts === undefined && !optional, 'layers without experts');
  if (experts === undefined) return;
  const first = firstDense ? firstSparse(architecture) : 0;
  refuseIf(
    architecture.layers.slice(first).some(({ mlp }) => !hasExperts(mlp)),
    'layers without experts behind others with them (mlp_only_layers, decoder_sparse_step)',
  );
  if (renormalized === null) return;
  const what = renormalized ? 'do not sum to one (norm_topk_prob false)' : 'sum to one (norm_topk_prob)';
  refuseIf(experts.renormalized !== renormalized, `weights of a token's experts that ${what}`);
}
