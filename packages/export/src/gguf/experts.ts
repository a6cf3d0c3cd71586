import { type DecoderArchitecture, type Experts, expertParameters, expertsOf } from '@lorasmith/model-folder';
import type { IndexRange } from '@lorasmith/weight-io';
import type { GgufFamily } from './families/gguf-family.js';
import type { LayerPart } from './layer-part.js';
import { type Setting, uint } from './metadata-setting.js';
import type { RefuseIf } from './refuse.js';

/** One expert's matrix in the weight files. */
export interface ExpertMatrix {
  /** Name of the tensor. */
  source: string;
  /** Its place among the experts that the tensor has. */
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
  /** `[rows, width]` of each expert as written. */
  shape: [rows: number, width: number];
  matrices: ExpertMatrix[];
  /** The rows of the parameter that it has; undefined: all of them. */
  rowOrder: readonly IndexRange[] | undefined;
}

/** Gate, up and down of the experts of a layer; nothing for a layer without, and of forms that are not written as GGUF. */
export function stackedExperts(architecture: DecoderArchitecture, layer: number): StackedExperts[] {
  const experts = expertsOf(architecture, layer);
  if (experts === null || (experts.files !== 'fused' && experts.files !== 'each')) return [];
  const { hiddenSize } = architecture;
  const { count, intermediateSize, files } = experts;
  const [gateUp, down] = expertParameters(architecture, layer);
  const stacked = (matrixOf: (expert: number) => ExpertMatrix) => Array.from({ length: count }, (_, i) => matrixOf(i));
  const half = (index: 0 | 1, name: string): StackedExperts => {
    const rowOrder = [{ first: index * intermediateSize, count: intermediateSize }];
    const matrices = stacked((expert) =>
      files === 'fused'
        ? { source: gateUp.tensors[0]!.name, index: expert, count, rowOrder }
        : { source: gateUp.tensors[2 * expert + index]!.name, index: 0, count: 1, rowOrder: undefined },
    );
    return { name, parameter: gateUp.name, shape: [intermediateSize, hiddenSize], matrices, rowOrder };
  };
  const ofDown = stacked((expert) =>
    files === 'fused'
      ? { source: down.tensors[0]!.name, index: expert, count, rowOrder: undefined }
      : { source: down.tensors[expert]!.name, index: 0, count: 1, rowOrder: undefined },
  );
  const shape: [number, number] = [hiddenSize, intermediateSize];
  return [
    half(0, 'ffn_gate_exps'),
    half(1, 'ffn_up_exps'),
    { name: 'ffn_down_exps', parameter: down.name, shape, matrices: ofDown, rowOrder: undefined },
  ];
}

/** The router of a layer, and the expert that all tokens pass. */
export function sparseParts({ names, experts }: DecoderArchitecture): LayerPart[] {
  const { router, shared, correction } = names.experts!;
  const ofRouter: LayerPart[] = [
    { path: router, name: 'ffn_gate_inp' },
    { path: correction, name: 'exp_probs_b.bias', isTensor: true },
  ];
  if (shared === null) return ofRouter;
  const [first, second] = shared.gateUp;
  const width = experts!.shared!.intermediateSize;
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

/** Whether a tensor is kept in float32, as in llama.cpp's converter. */
export function isRouter(name: string): boolean {
  return /\.ffn_gate_inp(_shexp)?\.weight$/.test(name);
}

/** The settings of experts, beside those of every decoder. */
export function expertSettings({ count, perToken, intermediateSize, shared }: Experts): Setting[] {
  return [
    ['expert_count', uint(count)],
    ['expert_used_count', uint(perToken)],
    ['expert_feed_forward_length', uint(intermediateSize)],
    ...(shared === null ? [] : [['expert_shared_feed_forward_length', uint(shared.intermediateSize)] as Setting]),
  ];
}

/** Checks that the layers have experts that llama.cpp computes. */
export function checkExperts(
  { experts }: DecoderArchitecture,
  { renormalized, firstDense = false }: NonNullable<GgufFamily['experts']>,
  refuseIf: RefuseIf,
): void {
  refuseIf(experts === null, 'layers without experts');
  const { layers } = experts!;
  const first = firstDense ? layers.indexOf(true) : 0;
  refuseIf(
    layers.slice(first).includes(false),
    'layers without experts behind others with them (mlp_only_layers, decoder_sparse_step)',
  );
  if (renormalized === null) return;
  const what = renormalized ? 'do not sum to one (norm_topk_prob false)' : 'sum to one (norm_topk_prob)';
  refuseIf(experts!.renormalized !== renormalized, `weights of a token's experts that ${what}`);
}
