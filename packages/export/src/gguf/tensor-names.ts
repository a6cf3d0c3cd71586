import { type DecoderArchitecture, tensorName } from '@lorasmith/model-folder';
import { GGUF_FAMILIES } from './gguf-families.js';

/** A tensor of a base model, and how it is written. */
export interface GgufTensorPlan {
  /** Name in the weight files. */
  source: string;
  /** Name in GGUF. */
  name: string;
  /** The PEFT module whose weight it is; null for a tensor that is not adapted. */
  module: string | null;
  transposed: boolean;
  /** Rows of a head whose halves are interleaved; 0: the order stays. */
  headRows: number;
  /** Added to every number. */
  added: number;
}

/** The names of the parts of a layer, for instance `attn_q`, by the path relative to the layer. */
function layerParts({ family, names, mlp }: DecoderArchitecture): [path: string | null, name: string][] {
  const queryKeyValue = names.queryKeyValue.length === 1 ? ['attn_qkv'] : ['attn_q', 'attn_k', 'attn_v'];
  const gateUp = mlp.gated && names.gateUp.length === 2 ? ['ffn_gate', 'ffn_up'] : ['ffn_up'];
  return [
    [names.attentionNorm, 'attn_norm'],
    ...queryKeyValue.map((name, index): [string, string] => [names.queryKeyValue[index]!, name]),
    [names.queryNorm, 'attn_q_norm'],
    [names.keyNorm, 'attn_k_norm'],
    [names.attentionOutput, 'attn_output'],
    [names.attentionBranchNorm, 'post_attention_norm'],
    [names.mlpNorm, GGUF_FAMILIES[family]?.mlpNorm ?? 'ffn_norm'],
    ...gateUp.map((name, index): [string, string] => [names.gateUp[index]!, name]),
    [names.down, 'ffn_down'],
    [names.mlpBranchNorm, 'post_ffw_norm'],
  ];
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
      const plan = { source, name: `${name}.${kind}`, module: null, transposed: false, headRows: 0, added: 0, ...how };
      plans.push(kind === 'weight' ? plan : { ...plan, module: null, transposed: false, added: 0 });
    }
  };
  const ofNorm = { added: norm.weightOffset };
  add(names.embedding, 'token_embd');
  add(names.positions, 'position_embd');
  const norms = [names.attentionNorm, names.attentionBranchNorm, names.mlpNorm, names.mlpBranchNorm];
  const headNorms = [names.queryNorm, names.keyNorm];
  for (let layer = 0; layer < layerCount; layer++) {
    for (const [path, part] of layerParts(architecture)) {
      if (path === null) continue;
      const module = `${names.layers}.${layer}.${path}`;
      const isNorm = norms.includes(path) || headNorms.includes(path);
      const linear = { module, transposed: architecture.transposedWeights, headRows: headRows(architecture, part) };
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
