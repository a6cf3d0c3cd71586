import { type AdaptableModule, type Fault, type JobSpec, type LoraSettings, loraScale } from '@lorasmith/contracts';
import {
  compileModulePattern,
  type FamilyName,
  hasSuffix,
  lastPartOf,
  type ModelFolder,
  type ModulePattern,
  PatternError,
  patternKeyMatcher,
  targetParametersOf,
} from '@lorasmith/model-folder';
import type { CodedFault, FaultList } from './fault-list.js';

/** A layer or a parameter that LoRA adapts, with the rank of its A and B and the factor of B A. */
export interface Target extends AdaptableModule {
  rank: number;
  scale: number;
}

/** The numbers of A and B for each unit of rank: a row of A and a column of B, of each expert of a parameter. */
export function numbersPerRank({ in_features, out_features, experts = 1 }: AdaptableModule): number {
  return experts * (in_features + out_features);
}

/** The numbers in all A and B. */
export function trainedNumbers(targets: readonly Target[]): number {
  return targets.reduce((sum, target) => sum + target.rank * numbersPerRank(target), 0);
}

/** No name is longer, and each key is compared with every layer. */
const MAX_KEY_LENGTH = 512;

/**
 * Gives each chosen layer its rank and scale. A key of `rank_pattern` or `alpha_pattern` that selects none of them is a
 * fault: a mistyped name would otherwise train with the common rank, unnoticed.
 *
 * @param faults - Gets `unmatched_target` and `invalid_job`, with the key in `param`.
 */
export function withRanks(
  layers: readonly AdaptableModule[],
  lora: Pick<LoraSettings, 'r' | 'alpha' | 'rank_pattern' | 'alpha_pattern' | 'use_rslora'>,
  faults: FaultList,
): Target[] {
  const rankOf = checkedPattern('rank_pattern', lora.rank_pattern, layers, faults);
  const alphaOf = checkedPattern('alpha_pattern', lora.alpha_pattern, layers, faults);
  return layers.map((layer) => {
    const rank = rankOf(layer.name) ?? lora.r;
    const alpha = alphaOf(layer.name) ?? lora.alpha;
    return { ...layer, rank, scale: loraScale({ rank, alpha, use_rslora: lora.use_rslora }) };
  });
}

function checkedPattern(
  field: 'rank_pattern' | 'alpha_pattern',
  table: Readonly<Record<string, number>>,
  layers: readonly AdaptableModule[],
  faults: FaultList,
): ModulePattern {
  const found = Object.keys(table).flatMap((key) => keyFault(field, key, layers) ?? []);
  faults.add(...found);
  if (found.length > 0) return () => undefined;
  try {
    return compileModulePattern(table);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    faults.add({ code: 'invalid_job', message: `${field}: ${error.message}.`, param: `lora.${field}` });
    return () => undefined;
  }
}

function keyFault(field: string, key: string, layers: readonly AdaptableModule[]): CodedFault | null {
  const param = `lora.${field}.${key.slice(0, 100)}`;
  if (key.length > MAX_KEY_LENGTH) {
    const message = `A key of ${field} is longer than ${MAX_KEY_LENGTH} characters.`;
    return { code: 'invalid_job', message, param };
  }
  try {
    const matches = patternKeyMatcher(key);
    if (layers.length === 0 || layers.some(({ name }) => matches(name))) return null;
    const message = `${field}: no trained layer matches ${JSON.stringify(key)}.`;
    return { code: 'unmatched_target', message, param };
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    const message = `${field}: ${error.message}. Look-around and back-references are not supported.`;
    return { code: 'invalid_job', message, param };
  }
}

const BYTES_PER_NUMBER = 4;
/** Bytes of the manifest and the model card: up to 1,000 losses, evaluations, checks, the probe, digests. */
const MANIFEST_BYTES = 64 * 1024;
/** Bytes of the manifest and the header of the weights: names and shapes of a layer. */
const BYTES_PER_LAYER = 640;

/** The most that a published adapter takes: in its files lower ranks are padded with zeros to the largest. */
export function adapterBytes(spec: JobSpec, targets: readonly Target[]): number {
  const rank = targets.reduce((most, layer) => Math.max(most, layer.rank), 0);
  const sizes = targets.reduce((sum, layer) => sum + numbersPerRank(layer), 0);
  const metadata = MANIFEST_BYTES + BYTES_PER_LAYER * targets.length + 3 * JSON.stringify(spec).length;
  return BYTES_PER_NUMBER * rank * sizes + metadata;
}

/** Share of a base model's parameters that are in these layers and experts, in percent. */
export function adaptedPercent(
  { parameterCount }: Pick<ModelFolder, 'parameterCount'>,
  targets: readonly AdaptableModule[],
): number {
  const adapted = targets.reduce(
    (sum, { in_features, out_features, experts = 1 }) => sum + experts * in_features * out_features,
    0,
  );
  return (100 * adapted) / parameterCount;
}

/** A warning of a job that leaves the experts of a mixture as they are: most of its parameters are in them. */
export function expertWarnings(
  model: Pick<ModelFolder, 'parameters' | 'parameterCount'>,
  targets: readonly AdaptableModule[],
): Fault[] {
  const names = model.parameters.map(({ name }) => name);
  if (names.length === 0 || targets.some(({ experts }) => experts !== undefined)) return [];
  const advice = `To adapt them too, add "target_parameters": ${JSON.stringify(targetParametersOf(names, names))}.`;
  const share = adaptedPercent(model, targets).toPrecision(2);
  const message = `The adapted layers have ${share} % of the base model's parameters: its experts are not adapted, since target_modules does not select them. ${advice}`;
  return [{ code: 'experts_not_adapted', message, param: 'lora.target_parameters' }];
}

/**
 * The families in which PEFT 0.21 takes the names of MLPs for those of experts, which had them before transformers 5
 * (`_convert_peft_config_moe` of peft/utils/transformers_weight_conversion.py).
 */
const FAMILIES: ReadonlySet<string> = new Set<FamilyName>([
  'deepseek_v3',
  'glm4_moe',
  'glm4_moe_lite',
  'qwen3_moe',
  'qwen3_next',
]);
const NAMES = ['gate_proj', 'up_proj', 'down_proj'] as const;

/** A warning of a job on MLPs in parallel with or in place of experts, whose adapter PEFT would load onto the experts. */
export function peftExpertWarnings(
  { architecture, parameters }: Pick<ModelFolder, 'architecture' | 'parameters'>,
  targets: readonly AdaptableModule[],
): Fault[] {
  if (architecture.kind !== 'decoder' || parameters.length === 0 || !FAMILIES.has(architecture.family)) return [];
  const taken = targets.filter(
    ({ name, experts }) => experts === undefined && NAMES.some((one) => hasSuffix(name, one)),
  );
  if (taken.length === 0) return [];
  const others = new Set(
    targets
      .filter((target) => !taken.includes(target) && target.experts === undefined)
      .map(({ name }) => lastPartOf(name)),
  );
  const advice = others.size === 0 ? '' : ` For PEFT, choose "target_modules": ${JSON.stringify([...others])}.`;
  const message = `In ${architecture.family} models PEFT 0.21 takes the names of ${taken.length} adapted MLP layers, such as ${taken[0]!.name}, for those of experts: it does not load this adapter as it is trained here. Lorasmith and its merged model do.${advice}`;
  return [{ code: 'peft_takes_mlp_for_experts', message, param: 'lora.target_modules' }];
}

/**
 * The number of the block that a module lies in, as PEFT finds it without a `layers_pattern`: the first part of the name
 * that is a number, with at least two parts before it and one after. Null for a module outside of blocks.
 */
export function layerIndexOf(moduleName: string): number | null {
  const index = /^[^\n]*?\.[^.]*\.(\d+)\./.exec(moduleName)?.[1];
  return index === undefined ? null : Number(index);
}
