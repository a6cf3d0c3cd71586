import type { DecoderArchitecture, ModelFolder } from '@lorasmith/model-folder';
import type { FloatDType } from '@lorasmith/tensor';
import { type LoadOptions, WeightSource } from '../weight-source.js';
import { Decoder } from './decoder.js';
import { DecoderLayer } from './decoder-layer.js';

/** Reads a decoder's weights; linear layers with the same input are stacked. */
export async function loadDecoder(folder: ModelFolder, dtype: FloatDType, options: LoadOptions = {}): Promise<Decoder> {
  const { architecture } = folder;
  if (architecture.kind !== 'decoder') throw new Error(`model ${folder.name} is a ${architecture.kind}, not a decoder`);
  return await WeightSource.reading(folder, dtype, options, async (source) => {
    const embedding = await source.tensor('model.embed_tokens.weight');
    const layers: DecoderLayer[] = [];
    for (let index = 0; index < architecture.layerCount; index++) {
      layers.push(await loadLayer(source, architecture, `model.layers.${index}`));
    }
    const finalNorm = await source.tensor('model.norm.weight', 'float32');
    const head = architecture.tiedHead ? embedding : await source.tensor('lm_head.weight');
    return new Decoder(architecture, dtype, { embedding, layers, finalNorm, head });
  });
}

async function loadLayer(
  source: WeightSource,
  architecture: DecoderArchitecture,
  prefix: string,
): Promise<DecoderLayer> {
  const { hiddenSize, intermediateSize, headCount, keyValueHeadCount, headDim, bias } = architecture;
  const queryWidth = headCount * headDim;
  const keyValueWidth = keyValueHeadCount * headDim;
  const linear = (path: string, outFeatures: number, hasBias: boolean) => {
    return { name: `${prefix}.${path}`, outFeatures, bias: hasBias };
  };
  return new DecoderLayer(architecture, {
    attentionNorm: await source.tensor(`${prefix}.input_layernorm.weight`, 'float32'),
    queryKeyValue: await source.projection(hiddenSize, [
      linear('self_attn.q_proj', queryWidth, bias.query),
      linear('self_attn.k_proj', keyValueWidth, bias.key),
      linear('self_attn.v_proj', keyValueWidth, bias.value),
    ]),
    attentionOutput: await source.projection(queryWidth, [linear('self_attn.o_proj', hiddenSize, bias.output)]),
    mlpNorm: await source.tensor(`${prefix}.post_attention_layernorm.weight`, 'float32'),
    gateUp: await source.projection(hiddenSize, [
      linear('mlp.gate_proj', intermediateSize, bias.mlp),
      linear('mlp.up_proj', intermediateSize, bias.mlp),
    ]),
    down: await source.projection(intermediateSize, [linear('mlp.down_proj', hiddenSize, bias.mlp)]),
  });
}
