import { loraScale, ProductError } from '@lorasmith/contracts';
import { compileModulePattern, EXPERT_PARAMETERS, type ModulePattern, PatternError } from '@lorasmith/model-folder';
import { maySelectExperts } from './expert-wrappers.js';
import { shownValue } from './peft-adapter.js';

const MAX_FILE_RANK = 65_536;
const MAX_PATTERNS = 4096;
const MAX_PATTERN_LENGTH = 512;

/** The fields of an `adapter_config.json` that affect what the adapter computes. */
export interface PeftConfig {
  baseModelNameOrPath: string | null;
  dropout: number;
  /** Names of parameters of experts, or ends of names from a dot on. */
  targetParameters: readonly string[];
  /** The rank of a module, or of a parameter of experts by its full name, according to the config. */
  rankOf(moduleName: string): number;
  /** The factor of B A for a module of this rank. */
  scaleOf(moduleName: string, rank: number): number;
}

// fan_in_fan_out is ignored: the base model's family determines the layout of the base weights, and A and B are the same.

/** Unsupported fields that change what the adapter computes, unless they are null, false or empty. */
const UNSUPPORTED_WHEN_SET = [
  'use_dora',
  'lora_bias',
  'modules_to_save',
  'layer_replication',
  'trainable_token_indices',
  'alora_invocation_tokens',
  'use_qalora',
  'use_bdlora',
  'arrow_config',
  'kasa_config',
  'monteclora_config',
] as const;

/** Initialisations that leave the base weights unchanged. Others (PiSSA, OLoRA, …) require modified base weights. */
const BASE_PRESERVING_INITIALISATIONS: unknown[] = [undefined, null, true, false, 'gaussian', 'eva', 'orthogonal'];

/**
 * Parses an `adapter_config.json` (PEFT 0.6 to 0.21).
 *
 * @throws ProductError invalid_adapter naming the field: not JSON, not LoRA, an unsupported feature (DoRA, biases,
 * `modules_to_save`, …), or a value out of range
 */
export function parsePeftConfig(text: string): PeftConfig {
  const config = parseObject(text);
  if (config.peft_type !== 'LORA')
    throw invalid('peft_type', `is ${shownValue(config.peft_type)}; only "LORA" is supported`);
  for (const field of UNSUPPORTED_WHEN_SET) {
    if (isSet(config[field])) throw invalid(field, `is ${shownValue(config[field])}, which is not supported`);
  }
  if (config.bias !== undefined && config.bias !== 'none') {
    throw invalid('bias', `is ${shownValue(config.bias)}; only "none" is supported`);
  }
  if (!BASE_PRESERVING_INITIALISATIONS.includes(config.init_lora_weights)) {
    const fault = `is ${shownValue(config.init_lora_weights)}, which changes the base weights; convert the adapter with PEFT`;
    throw invalid('init_lora_weights', fault);
  }
  const r = numberOf(config, 'r', isRank);
  const alpha = numberOf(config, 'lora_alpha', Number.isFinite);
  const dropout = config.lora_dropout === undefined ? 0 : numberOf(config, 'lora_dropout', isProbability);
  const targetParameters = parametersIn(config.target_parameters);
  if (targetParameters.length > 0 && dropout > 0) {
    throw invalid('lora_dropout', `is ${dropout}, which PEFT refuses with target_parameters`);
  }
  const rankPattern = compilePattern('rank_pattern', config.rank_pattern, isRank);
  const alphaPattern = compilePattern('alpha_pattern', config.alpha_pattern, Number.isFinite);
  return {
    baseModelNameOrPath: typeof config.base_model_name_or_path === 'string' ? config.base_model_name_or_path : null,
    dropout,
    targetParameters,
    rankOf: (moduleName) => rankPattern(moduleName) ?? r,
    scaleOf: (moduleName, rank) =>
      loraScale({ rank, alpha: alphaPattern(moduleName) ?? alpha, use_rslora: config.use_rslora === true }),
  };
}

export interface PeftConfigToWrite {
  r: number;
  /** The scale is `alpha / r`, without rsLoRA. */
  alpha: number;
  dropout: number;
  targetModules: readonly string[];
  targetParameters: readonly string[];
  /** The base model, and its commit if it is a repository of the hub. */
  baseModelNameOrPath: string;
  revision: string | null;
  /** True if the base weights are stored as `[in, out]`. */
  fanInFanOut: boolean;
  taskType: 'CAUSAL_LM' | null;
}

/**
 * The text of an `adapter_config.json`. It contains only fields of PEFT 0.6, since PEFT rejects unknown fields; of 0.17 if experts
 * are adapted. The scale is always `lora_alpha / r`, since vLLM and llama.cpp ignore the patterns.
 */
export function formatPeftConfig(config: PeftConfigToWrite): string {
  const fields = {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: config.baseModelNameOrPath,
    bias: 'none',
    fan_in_fan_out: config.fanInFanOut,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: config.r,
    rank_pattern: {},
    revision: config.revision,
    target_modules: config.targetModules,
    ...(config.targetParameters.length > 0 ? { target_parameters: config.targetParameters } : {}),
    task_type: config.taskType,
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

/**
 * The text of an `adapter_config.json` with another name of the base model, and its revision.
 * @throws ProductError `invalid_adapter` if it is not JSON
 */
export function withBaseModelName(text: string, { name, revision }: { name: string; revision: string | null }): string {
  const fields = { ...parseObject(text), base_model_name_or_path: name, revision };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ProductError('invalid_adapter', 'adapter_config.json is not valid JSON.', { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProductError('invalid_adapter', 'adapter_config.json must contain an object.');
  }
  return value as Record<string, unknown>;
}

function numberOf(config: Record<string, unknown>, field: string, isValid: (value: number) => boolean): number {
  const value = config[field];
  if (typeof value !== 'number' || !isValid(value)) throw invalid(field, `is ${shownValue(value)}`);
  return value;
}

/**
 * Reads `target_parameters` of a PEFT config. PEFT also adapts other parameters, of two dimensions or of modules of another
 * kind; here they must be those of experts.
 *
 * @throws ProductError invalid_adapter
 */
function parametersIn(targets: unknown): string[] {
  const field = 'target_parameters';
  if (targets === undefined || targets === null) return [];
  if (!Array.isArray(targets)) throw invalid(field, 'must be a list of names');
  if (targets.length > MAX_PATTERNS) throw invalid(field, `has more than ${MAX_PATTERNS} entries`);
  for (const target of targets) {
    if (typeof target !== 'string' || target.length > MAX_PATTERN_LENGTH || !maySelectExperts(target)) {
      const supported = EXPERT_PARAMETERS.map((parameter) => `experts.${parameter}`).join(' and ');
      throw invalid(field, `has ${shownValue(target)}; only ${supported} are supported`);
    }
  }
  return targets as string[];
}

/**
 * Reads `rank_pattern` or `alpha_pattern` of a PEFT config: a number for the modules that a key selects.
 *
 * @throws ProductError invalid_adapter
 */
function compilePattern(field: string, table: unknown, isValid: (value: number) => boolean): ModulePattern {
  if (table === undefined || table === null) return () => undefined;
  if (typeof table !== 'object' || Array.isArray(table)) throw invalid(field, 'must be an object');
  const entries = Object.entries(table);
  if (entries.length > MAX_PATTERNS) throw invalid(field, `has more than ${MAX_PATTERNS} entries`);
  for (const [key, value] of entries) {
    if (key.length > MAX_PATTERN_LENGTH) throw invalid(field, `has a key longer than ${MAX_PATTERN_LENGTH} characters`);
    if (typeof value !== 'number' || !isValid(value)) throw invalid(field, `has an invalid value for ${key}`);
  }
  try {
    return compileModulePattern(table as Record<string, number>);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw invalid(field, `has an unsupported key: ${error.message}`, error);
  }
}

const isRank = (value: number) => Number.isInteger(value) && value >= 1 && value <= MAX_FILE_RANK;
const isProbability = (value: number) => value >= 0 && value < 1;

function isSet(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}

function invalid(field: string, fault: string, cause?: unknown): ProductError {
  return new ProductError('invalid_adapter', `adapter_config.json: ${field} ${fault}.`, { param: field, cause });
}
