import { type AdapterManifest, type BaseQuantization, ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from './model-folder.js';
import { isFourBit, isNested, type QuantizedWeight } from './quantized-weights.js';

type BaseModelOfAdapter = AdapterManifest['base_model'];

/**
 * A model as a job computes with it: with `nf4`, its linear layers without the head are quantized when they are read.
 * @throws ProductError invalid_job where that is not possible
 */
export function withBaseQuantization(model: ModelFolder, quantization: BaseQuantization): ModelFolder {
  if (quantization === model.baseQuantization || quantization === 'none') return model;
  const fault = faultOf(model);
  if (fault !== null) {
    throw new ProductError('invalid_job', `${model.name} ${fault}`, { param: 'training.base_quantization' });
  }
  const quantized = new Map<string, QuantizedWeight>();
  for (const layer of model.linears.values()) {
    if (layer.name === model.headModule?.name) continue;
    quantized.set(layer.weight, { form: 'made', type: quantization, shape: [layer.outFeatures, layer.inFeatures] });
  }
  return { ...model, quantized, baseQuantization: quantization };
}

/** Why a model's weights cannot be quantized when they are read; null: they can. */
function faultOf({ architecture, quantized, dtype, linears }: ModelFolder): string | null {
  if (quantized.size > 0) {
    return `has quantized weights (${dtype}) already, and is trained with these: leave base_quantization out.`;
  }
  if (architecture.kind === 'decoder' && architecture.experts !== null) {
    return 'has experts, which most of its weights are in and which are not quantized: leave base_quantization out.';
  }
  if (architecture.kind !== 'decoder' || [...linears.values()].some(({ transposed }) => transposed)) {
    return `is of the family ${architecture.family}, whose weights cannot be quantized: leave base_quantization out.`;
  }
  return null;
}

/** How the weights of a model are quantized; null: they are not. */
export function quantizationOf({
  quantized,
  baseQuantization,
}: Pick<ModelFolder, 'quantized' | 'baseQuantization'>): BaseModelOfAdapter['quantization'] {
  const [first] = quantized.values();
  if (first === undefined || !isFourBit(first)) return null;
  return { type: first.type, double_quantization: isNested(first), on_load: baseQuantization !== 'none' };
}

/** The model in the form in which an adapter was trained on it. Whether it is that model, digests must tell. */
export function asTrained(model: ModelFolder, { quantization }: Pick<BaseModelOfAdapter, 'quantization'>): ModelFolder {
  return faultOf(model) === null ? withBaseQuantization(model, onLoad(quantization)) : model;
}

/** The setting with which a base model was quantized like that. */
export function onLoad(quantization: BaseModelOfAdapter['quantization']): BaseQuantization {
  return quantization?.on_load ? 'nf4' : 'none';
}
