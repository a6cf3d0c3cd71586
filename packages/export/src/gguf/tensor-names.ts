import { type DecoderArchitecture, tensorName } from '@lorasmith/model-folder';
import { GGUF_FAMILIES } from './gguf-families.js';

export interface RowRange {
  first: number;
  count: number;
}

/** A tensor of a base model, and how it is written. */
export interface GgufTensorPlan {
  /** Name in the weight files. */
  source: string;
  /** Name in GGUF. */
  name: string;
  /** The PEFT module whose weight it is; null for a tensor that is not adapted. */
  module: string | null;
  /** The rows of the stored tensor; null: all of them. */
  rows: RowRange | null;
  transposed: boolean;
  /** Rows of a head whose halves are interleaved; 0: the order stays. */
  headRows: number;
  /** Added to every number. */
  added: number;
}

type LayerPart = [path: string | null, name: string, rows?: RowRange];

/** The names of the parts of a layer, for instance `attn_q`, by the path relative to the layer. */
function layerParts(architecture: DecoderArchitecture): LayerPart[] {
  const { family, names } = architecture;
  const queryKeyValue = names.queryKeyValue.length === 1 ? ['attn_qkv'] : ['attn_q', 'attn_k', 'attn_v'];
  return [
    [names.attentionNorm, 'attn_norm'],
    ...queryKeyValue.map((name, index): LayerPart => [names.queryKeyValue[index]!, name]),
    [names.queryNorm, 'attn_q_norm'],
    [names.keyNorm, 'attn_k_norm'],
    [names.attentionOutput, 'attn_output'],
    [names.attentionBranchNorm, 'post_attention_norm'],
    [names.mlpNorm, GGUF_FAMILIES[family]?.mlpNorm ?? 'ffn_norm'],
    ...gateUpParts(architecture),
    [names.down, 'ffn_down'],
    [names.mlpBranchNorm, 'post_ffw_norm'],
  ];
}

function gateUpParts({ family, names, mlp, intermediateSize }: DecoderArchitecture): LayerPart[] {
  const [first, second] = names.gateUp;
  const parts = ['ffn_gate', 'ffn_up'] as const;
  if (GGUF_FAMILIES[family]?.splitsGateUp) {
    // The rows of the gate, and behind them those of up.
    return parts.map((name, half) => [first!, name, { first: half * intermediateSize, count: intermediateSize }]);
  }
  return mlp.gated && second !== undefined
    ? [
        [first!, parts[0]],
        [second, parts[1]],
      ]
    : [[first!, parts[1]]];
}

/**
 * The names of a decoder's tensors as in llama.cpp (gguf-py, `tensor_mapping.py`), and how llama.cpp wants them.
 *
 * @param has whether the architecture has the tensor
 */
export function planTensors(architecture: DecoderArchitecture, has: (tensor: string) => boolean): GgufTensorPlan[] {
  const { names, norm, tiedHead, layerCount } = architecture;
  const plans: GgufTensorPlan[] = [];
  const add = (path: string | null, name: string, how: Partial<GgufTensorPlan> = {}) => {
    if (path === null) return;
    for (const kind of ['weight', 'bias']) {
      const source = tensorName(names, `${path}.${kind}`);
      if (!has(source)) continue;
      const whole = { module: null, rows: null, transposed: false, headRows: 0, added: 0 };
      const plan = { source, name: `${name}.${kind}`, ...whole, ...how };
      plans.push(kind === 'weight' ? plan : { ...plan, module: null, transposed: false, added: 0 });
    }
  };
  const ofNorm = { added: norm.weightOffset };
  add(names.embedding, 'token_embd');
  add(names.positions, 'position_embd');
  const norms = [names.attentionNorm, names.attentionBranchNorm, names.mlpNorm, names.mlpBranchNorm];
  const headNorms = [names.queryNorm, names.keyNorm];
  for (let layer = 0; layer < layerCount; layer++) {
    for (const [path, part, rows = null] of layerParts(architecture)) {
      if (path === null) continue;
      const module = `${names.layers}.${layer}.${path}`;
      const isNorm = norms.includes(path) || headNorms.includes(path);
      const { transposedWeights: transposed } = architecture;
      const linear = { module, rows, transposed, headRows: headRows(architecture, part) };
      add(module, `blk.${layer}.${part}`, isNorm ? ofNorm : linear);
    }
  }
  add(names.finalNorm, 'output_norm', ofNorm);
  if (!tiedHead) add(names.head, 'output', { module: names.head });
  return plans;
}

function headRows({ family, headDim }: DecoderArchitecture, part: string): number {
  const isRotated = part === 'attn_q' || part === 'attn_k';
  return GGUF_FAMILIES[family]?.adjacentPairs && isRotated ? headDim : 0;
}
