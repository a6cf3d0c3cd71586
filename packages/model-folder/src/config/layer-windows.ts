import type { LayerSettings, ScoredAttention } from '../architecture.js';
import { hasScores } from '../layer-kinds/mixer-kinds.js';
import type { ConfigFields } from './config-fields.js';

/** The values of `layer_types`. */
export const LAYER_TYPES = ['full_attention', 'sliding_attention'] as const;
export type LayerType = (typeof LAYER_TYPES)[number];

/**
 * Reads `layer_types` of a config.json: whether the attention of each layer has a window, in most families.
 *
 * @param fallback the type of a layer if the config has no `layer_types`
 * @param known the types of the family
 * @throws ProductError model_not_supported for another type, model_file_corrupt for a wrong number of types
 */
export function readLayerTypes<Type extends string = LayerType>(
  config: ConfigFields,
  layerCount: number,
  fallback: (layer: number) => Type,
  known: readonly Type[] = LAYER_TYPES as readonly string[] as readonly Type[],
): Type[] {
  const types = config.value('layer_types');
  if (types === undefined) return Array.from({ length: layerCount }, (_, layer) => fallback(layer));
  if (!Array.isArray(types) || types.length !== layerCount) {
    throw config.corrupt('layer_types', `must list a type for each of the ${layerCount} layers`);
  }
  if (!types.every((type): type is Type => (known as readonly unknown[]).includes(type))) {
    throw config.unsupported('layer_types', `is not supported; ${known.join(' and ')} are`);
  }
  return types;
}

/**
 * The window of each layer; null for full attention.
 *
 * @param window of the layers with sliding attention; null if the config has none
 * @throws ProductError model_file_corrupt when a layer has sliding attention but the config has no window
 */
export function windowsOf(config: ConfigFields, types: readonly LayerType[], window: number | null): (number | null)[] {
  if (window === null && types.includes('sliding_attention')) {
    throw config.corrupt('layer_types', 'contains "sliding_attention", but sliding_window is missing');
  }
  return types.map((type) => (type === 'sliding_attention' ? window : null));
}

/** The type of a layer where every `period`th has full attention and the others a window. */
export function fullEvery(period: number): (layer: number) => LayerType {
  return (layer) => ((layer + 1) % period === 0 ? 'full_attention' : 'sliding_attention');
}

/**
 * The windows of Qwen2 and Qwen3: only with `use_sliding_window`, and then from layer `max_window_layers` on, unless
 * `layer_types` overrides it.
 */
export function readQwenWindows(config: ConfigFields, layerCount: number): (number | null)[] {
  const isUsed = config.flag('use_sliding_window', false);
  const window = isUsed ? config.sizeOrNull('sliding_window', 4096) : null;
  const firstSliding = config.count('max_window_layers', 28);
  const types = readLayerTypes(config, layerCount, (layer) =>
    window !== null && layer >= firstSliding ? 'sliding_attention' : 'full_attention',
  );
  return windowsOf(config, types, window);
}

/** Sets the attention window of each layer. */
export function withWindows(
  layers: readonly LayerSettings[],
  windows: readonly (number | null)[],
): readonly LayerSettings[] {
  return withScores(layers, (layer) => ({ window: windows[layer]! }));
}

/** Sets the factor of the attention scores. */
export function withScale(layers: readonly LayerSettings[], scale: number): readonly LayerSettings[] {
  return withScores(layers, () => ({ scale }));
}

function withScores(
  layers: readonly LayerSettings[],
  change: (layer: number) => Partial<ScoredAttention>,
): readonly LayerSettings[] {
  return layers.map((own, layer) => {
    const { mixer } = own;
    return hasScores(mixer) ? { ...own, mixer: { ...mixer, ...change(layer) } } : own;
  });
}
