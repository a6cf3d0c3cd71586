import type { AdaptableModule } from '@lorasmith/contracts';
import type { DecoderArchitecture } from '../architecture.js';
import type { ModelLayout, RequiredTensor } from './family.js';

/** Names and shapes of llama-like decoders, as transformers writes them: `model.` before all but the head. */
export function decoderLayout(architecture: DecoderArchitecture): ModelLayout {
  const { vocabSize, hiddenSize, layerCount, tiedHead } = architecture;
  const tensors: RequiredTensor[] = [{ name: 'model.embed_tokens.weight', shape: [vocabSize, hiddenSize] }];
  const modules: AdaptableModule[] = [];
  for (let layer = 0; layer < layerCount; layer++) {
    const prefix = `model.layers.${layer}.`;
    tensors.push({ name: `${prefix}input_layernorm.weight`, shape: [hiddenSize] });
    tensors.push({ name: `${prefix}post_attention_layernorm.weight`, shape: [hiddenSize] });
    for (const { path, inFeatures, outFeatures, bias } of layerLinears(architecture)) {
      const name = prefix + path;
      tensors.push({ name: `${name}.weight`, shape: [outFeatures, inFeatures] });
      if (bias) tensors.push({ name: `${name}.bias`, shape: [outFeatures] });
      modules.push({ name, in_features: inFeatures, out_features: outFeatures });
    }
  }
  tensors.push({ name: 'model.norm.weight', shape: [hiddenSize] });
  if (!tiedHead) tensors.push({ name: 'lm_head.weight', shape: [vocabSize, hiddenSize] });
  const headModule = { name: 'lm_head', in_features: hiddenSize, out_features: vocabSize };
  return { tensors, modules, headModule };
}

function layerLinears({
  hiddenSize,
  intermediateSize,
  headCount,
  keyValueHeadCount,
  headDim,
  bias,
}: DecoderArchitecture) {
  const linear = (path: string, inFeatures: number, outFeatures: number, hasBias: boolean) => {
    return { path, inFeatures, outFeatures, bias: hasBias };
  };
  const querySize = headCount * headDim;
  const keyValueSize = keyValueHeadCount * headDim;
  return [
    linear('self_attn.q_proj', hiddenSize, querySize, bias.query),
    linear('self_attn.k_proj', hiddenSize, keyValueSize, bias.key),
    linear('self_attn.v_proj', hiddenSize, keyValueSize, bias.value),
    linear('self_attn.o_proj', querySize, hiddenSize, bias.output),
    linear('mlp.gate_proj', hiddenSize, intermediateSize, bias.mlp),
    linear('mlp.up_proj', hiddenSize, intermediateSize, bias.mlp),
    linear('mlp.down_proj', intermediateSize, hiddenSize, bias.mlp),
  ];
}
