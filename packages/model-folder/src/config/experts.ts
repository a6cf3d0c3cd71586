import type { DecoderArchitecture, Experts, LayerSettings } from '../architecture.js';
import { type DecoderNames, type ExpertNames, tensorOfLayer } from '../decoder-names.js';
import type { FamilySource } from '../families/family.js';
import { fusedPaths, hasExperts } from '../layer-kinds/sparse.js';
import type { ConfigFields } from './config-fields.js';

/** Far above the experts of any known model. The files may have three tensors for each. */
export const MAX_EXPERTS = 1024;

/** A sparse layer's parts in Qwen's models; without the shared expert, which Qwen3 lacks. */
export const EXPERT_NAMES: ExpertNames = {
  router: 'mlp.gate',
  experts: 'mlp.experts',
  fused: null,
  shared: null,
  correction: null,
  beside: null,
};

/** The same with the shared expert. */
export const SHARED_EXPERT_NAMES: ExpertNames = {
  ...EXPERT_NAMES,
  shared: {
    gateUp: ['mlp.shared_expert.gate_proj', 'mlp.shared_expert.up_proj'],
    down: 'mlp.shared_expert.down_proj',
    gate: 'mlp.shared_expert_gate',
  },
};

/** The parts of a sparse layer in models whose router scores by sigmoid. */
export const ROUTED_EXPERT_NAMES: ExpertNames = {
  ...EXPERT_NAMES,
  shared: {
    gateUp: ['mlp.shared_experts.gate_proj', 'mlp.shared_experts.up_proj'],
    down: 'mlp.shared_experts.down_proj',
    gate: null,
  },
  correction: 'mlp.gate.e_score_correction_bias',
};

/**
 * Layers with these experts in the place of MLPs.
 * @param experts null: there are none
 * @param isSparse true for each layer that has them. @defaultValue all have
 */
export function withExperts(
  layers: readonly LayerSettings[],
  experts: Experts | null,
  isSparse: readonly boolean[] = layers.map(() => true),
): readonly LayerSettings[] {
  if (experts === null) return layers;
  const mlp = { kind: 'sparse', experts } as const;
  return layers.map((layer, index) => (isSparse[index] ? { ...layer, mlp } : layer));
}

/** A family's values for missing fields, as in transformers. */
export interface ExpertDefaults {
  count: number;
  perToken: number;
  intermediateSize: number;
  /** The width of the shared expert. @defaultValue there is none */
  sharedIntermediateSize?: number;
  /** The rule by which a token's weights sum to one: unless `norm_topk_prob` says otherwise, or always. @defaultValue if `norm_topk_prob` says so */
  renormalized?: 'by-default' | 'always';
}

/**
 * Reads the experts of Qwen's models. The decoder's `names.experts` are needed.
 *
 * @returns the decoder's layers, with experts in those that are sparse
 * @throws ProductError model_file_corrupt, model_not_supported
 */
export function readExperts(
  source: FamilySource,
  decoder: DecoderArchitecture,
  defaults: ExpertDefaults,
): readonly LayerSettings[] {
  const { config } = source;
  const count = readCount(config, defaults.count);
  const step = config.size('decoder_sparse_step', { fallback: 1 });
  const dense = readDenseLayers(config);
  const isSparse = (layer: number) => count > 0 && (layer + 1) % step === 0 && !dense.has(layer);
  const sparse = decoder.layers.map((_, layer) => isSparse(layer));
  if (!sparse.includes(true)) return decoder.layers;
  const { sharedIntermediateSize: shared } = defaults;
  const experts: Experts = {
    count,
    perToken: readPerToken(config, count, { fallback: defaults.perToken }),
    intermediateSize: config.size('moe_intermediate_size', { fallback: defaults.intermediateSize }),
    renormalized:
      defaults.renormalized === 'always' || config.flag('norm_topk_prob', defaults.renormalized === 'by-default'),
    shared:
      shared === undefined
        ? null
        : { intermediateSize: config.size('shared_expert_intermediate_size', { fallback: shared }) },
    files: expertFiles(source, decoder.names, sparse),
  };
  return withExperts(decoder.layers, experts, sparse);
}

/** The same of a family whose router scores by sigmoid. */
export interface RoutedExpertDefaults {
  count: number;
  perToken: number;
  intermediateSize: number;
  /** The width of the shared expert in widths of the others. */
  shared: number;
  groups: number;
  groupsPerToken: number;
  scale: number;
  renormalized: boolean;
}

/**
 * True for each layer with experts, where the first have none.
 * @param fallback the count of layers without experts if the config does not say it
 */
export function sparseAfterFirst({ config }: FamilySource, layerCount: number, fallback: number): boolean[] {
  const denseLayers = config.count('first_k_dense_replace', fallback);
  return Array.from({ length: layerCount }, (_, layer) => layer >= denseLayers);
}

/**
 * Reads experts whose router scores by sigmoid, in DeepSeek's fields. The decoder's `names.experts` are needed.
 *
 * @param sparse true for each layer that has them
 * @returns null where no layer is sparse
 * @throws ProductError model_file_corrupt, model_not_supported
 */
export function readRoutedExperts(
  source: FamilySource,
  decoder: DecoderArchitecture,
  sparse: readonly boolean[],
  defaults: RoutedExpertDefaults,
): Experts | null {
  const { config } = source;
  if (!sparse.includes(true)) return null;
  const count = config.size('n_routed_experts', { fallback: defaults.count, max: MAX_EXPERTS });
  const perToken = config.size('num_experts_per_tok', { fallback: defaults.perToken });
  const groups = config.size('n_group', { fallback: defaults.groups });
  const groupsPerToken = config.size('topk_group', { fallback: defaults.groupsPerToken });
  if (count % groups !== 0 || count < 2 * groups) {
    throw config.corrupt('n_group', `${groups} groups of at least two experts cannot be made of ${count}`);
  }
  if (groupsPerToken > groups)
    throw config.corrupt('topk_group', `${groupsPerToken} is more than the ${groups} groups`);
  const choosable = (count / groups) * groupsPerToken;
  if (perToken > choosable) {
    throw config.corrupt(
      'num_experts_per_tok',
      `${perToken} is more than the ${choosable} experts of topk_group groups`,
    );
  }
  const intermediateSize = config.size('moe_intermediate_size', { fallback: defaults.intermediateSize });
  return {
    count,
    perToken,
    intermediateSize,
    renormalized: config.flag('norm_topk_prob', defaults.renormalized),
    sigmoid: { groups, groupsPerToken, scale: config.positiveNumber('routed_scaling_factor', defaults.scale) },
    shared: { intermediateSize: intermediateSize * config.size('n_shared_experts', { fallback: defaults.shared }) },
    files: expertFiles(source, decoder.names, sparse),
  };
}

/** The experts of a layer. The field has two names. */
export function readCount(config: ConfigFields, fallback: number): number {
  const [field, other] = ['num_experts', 'num_local_experts'].filter((name) => config.has(name));
  if (field === undefined) return fallback;
  const count = config.count(field, 0);
  if (other !== undefined && config.count(other, 0) !== count) {
    throw config.corrupt(other, `${config.count(other, 0)} is not ${field} ${count}`);
  }
  if (count > MAX_EXPERTS) throw config.unsupported(field, `is not supported: at most ${MAX_EXPERTS} experts are`);
  return count;
}

/** The experts that a token passes. @throws ProductError model_file_corrupt for more than there are */
export function readPerToken(
  config: ConfigFields,
  count: number,
  { field = 'num_experts_per_tok', fallback }: { field?: string; fallback?: number },
): number {
  const perToken = config.size(field, { fallback });
  if (perToken > count) throw config.corrupt(field, `${perToken} is more than the ${count} experts`);
  return perToken;
}

/** The layers that have one MLP whatever `decoder_sparse_step` says. */
function readDenseLayers(config: ConfigFields): Set<number> {
  const layers = config.value('mlp_only_layers') ?? [];
  if (Array.isArray(layers) && layers.every((layer) => Number.isSafeInteger(layer) && layer >= 0)) {
    return new Set(layers);
  }
  throw config.corrupt('mlp_only_layers', 'must list indices of layers');
}

/** The same layers in files with these names. */
export function withExpertFiles(
  source: FamilySource,
  names: DecoderNames,
  layers: readonly LayerSettings[],
): readonly LayerSettings[] {
  const sparse = layers.map(({ mlp }) => hasExperts(mlp));
  if (!sparse.includes(true)) return layers;
  const files = expertFiles(source, names, sparse);
  return layers.map((layer) => {
    const { mlp } = layer;
    return hasExperts(mlp) ? { ...layer, mlp: { ...mlp, experts: { ...mlp.experts, files } } } : layer;
  });
}

/** Fused if any layer is: whether the others fit is checked with the tensors. */
export function expertFiles(
  { hasTensor }: FamilySource,
  names: DecoderNames,
  sparse: readonly boolean[],
): Experts['files'] {
  const isFused = sparse.some(
    (isSparse, layer) => isSparse && fusedPaths(names).some((path) => hasTensor(tensorOfLayer(names, layer, path))),
  );
  return isFused ? 'fused' : 'each';
}
