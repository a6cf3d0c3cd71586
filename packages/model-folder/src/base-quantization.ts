import { type AdapterManifest, type BaseQuantization, ProductError } from '@lorasmith/contracts';
import { layerLinears } from './decoder-layout.js';
import type { ExpertParameter } from './families/family.js';
import type { ModelFolder } from './model-folder.js';
import { QUANTIZED_BLOCK, QuantizedOnLoad } from './weight-formats/four-bit.js';
import type { QuantizedWeight } from './weight-formats/quantized-weight.js';

type BaseModelOfAdapter = AdapterManifest['base_model'];

/**
 * A model as a job computes with it: with `nf4`, its linear layers without head and routers, and each matrix of its experts, are
 * quantized when they are read.
 * @throws ProductError invalid_job where that is not possible
 */
export function withBaseQuantization(model: ModelFolder, quantization: BaseQuantization): ModelFolder {
  if (quantization === model.baseQuantization || quantization === 'none') return model;
  const fault = faultOf(model);
  if (fault !== null) {
    throw new ProductError('invalid_job', `${model.name} ${fault}`, { param: 'training.base_quantization' });
  }
  const quantized = new Map<string, QuantizedWeight>();
  const kept = new Set([model.headModule?.name, ...routersOf(model)]);
  for (const layer of model.linears.values()) {
    if (kept.has(layer.name)) continue;
    quantized.set(layer.weight, new QuantizedOnLoad([layer.outFeatures, layer.inFeatures]));
  }
  for (const parameter of model.expertParameters.values()) {
    for (const [name, weight] of madeExperts(parameter)) quantized.set(name, weight);
  }
  return { ...model, quantized, baseQuantization: quantization };
}

/** The routers that are among the linear layers: their numbers decide which experts a token passes. */
function routersOf({ architecture }: ModelFolder): string[] {
  if (architecture.kind !== 'decoder') return [];
  const routers = Array.from(
    { length: architecture.layerCount },
    (_, layer) => layerLinears(architecture, layer).router,
  );
  return routers.flatMap((router) => router?.name ?? []);
}

/** The matrices of experts, by the name of their tensor: those of gate and up are quantized each by itself, in whatever form files have them. */
function madeExperts({
  experts,
  projections = 1,
  tensors,
}: ExpertParameter): [name: string, weight: QuantizedOnLoad][] {
  const [first] = tensors;
  if (tensors.length === 1 && first!.shape.length === 3) {
    const [, rows, columns] = first!.shape as [number, number, number];
    return [[first!.name, new QuantizedOnLoad([rows / projections, columns], experts * projections)]];
  }
  return tensors.map(({ name, shape: [rows, columns] }) => [name, new QuantizedOnLoad([rows!, columns!])]);
}

/** The reason why a model's weights cannot be quantized when they are read; null: they can. */
function faultOf({ architecture, quantized, dtype, linears, expertParameters }: ModelFolder): string | null {
  if (quantized.size > 0) {
    return `has quantized weights (${dtype}) already, and is trained with these: leave base_quantization out.`;
  }
  const widths = [...expertParameters.values()].map(({ tensors }) => tensors[0]!.shape.at(-1)!);
  const odd = widths.find((width) => width % QUANTIZED_BLOCK !== 0);
  if (odd !== undefined) {
    return `has experts whose rows of ${odd} numbers are not made of blocks of ${QUANTIZED_BLOCK}, so that they cannot stay quantized: leave base_quantization out.`;
  }
  if (architecture.kind !== 'decoder' || [...linears.values()].some(({ transposed }) => transposed)) {
    return `is of the family ${architecture.family}, whose weights cannot be quantized: leave base_quantization out.`;
  }
  return null;
}

/** The quantization of a model's weights; null: they have none. */
export function quantizationOf({
  quantized,
  baseQuantization,
  expertParameters,
}: Pick<ModelFolder, 'quantized' | 'baseQuantization' | 'expertParameters'>): BaseModelOfAdapter['quantization'] {
  const [first] = quantized.values();
  if (!first?.recorded) return null;
  const settings = { ...first.recorded, on_load: baseQuantization !== 'none' };
  const ofExperts = [...expertParameters.values()].flatMap(({ tensors }) => tensors);
  return ofExperts.some(({ name }) => quantized.has(name)) ? { ...settings, experts: true } : settings;
}

/** A base model as the manifest of its adapter describes it. @param digests of its weights and its architecture */
export function baseModelOfAdapter(
  model: ModelFolder,
  digests: Pick<BaseModelOfAdapter, 'weights_sha256' | 'architecture_sha256'>,
): BaseModelOfAdapter {
  const { name, origin, architecture } = model;
  const pulled = origin === null ? {} : { origin };
  return { name, ...pulled, family: architecture.family, ...digests, quantization: quantizationOf(model) };
}

/** The model in the form in which an adapter was trained on it. Digests must prove that it is that model. */
export function asTrained(model: ModelFolder, { quantization }: Pick<BaseModelOfAdapter, 'quantization'>): ModelFolder {
  return faultOf(model) === null ? withBaseQuantization(model, onLoad(quantization)) : model;
}

/** The setting with which a base model was quantized like that. */
export function onLoad(quantization: BaseModelOfAdapter['quantization']): BaseQuantization {
  return quantization?.on_load ? 'nf4' : 'none';
}
