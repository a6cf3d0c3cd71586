import { type AdapterManifest, type JobRequest, jobOrigin, type LoraSettings } from '@lorasmith/contracts';
import {
  type BaseIdentity,
  baseMismatch,
  isExpertParameter,
  targetModulesOf,
  targetParametersOf,
} from '@lorasmith/model-folder';
import { type CodedFault, FaultList } from './fault-list.js';
import { type Target, withRanks } from './targets.js';

type LoraRequest = NonNullable<JobRequest['lora']>;

/** The settings that decide the shape of an adapter: a job that continues it must have the same. */
const SHAPING = ['r', 'alpha', 'use_rslora', 'rank_pattern', 'alpha_pattern'] as const;
const SELECTING = ['target_modules', 'target_parameters', 'exclude_modules', 'layers_to_transform'] as const;

/** Full names of the parts of a base model that LoRA can adapt. */
export interface BaseNames {
  layers: Iterable<string>;
  parameters: Iterable<string>;
}

type AdapterSettings = Pick<LoraSettings, (typeof SHAPING)[number] | (typeof SELECTING)[number]>;

/**
 * The LoRA settings of a request that continues an adapter (`init_from`): what it leaves out of rank, alpha, patterns
 * and layers is the adapter's. What it gives itself stays, for {@link initialAdapterFaults} to compare.
 *
 * @param base - Names of the base model's linear layers and parameters of experts, from which short names for the adapter's are found.
 */
export function inheritLora(given: LoraRequest, initial: AdapterManifest, base: BaseNames): LoraRequest {
  const own = settingsOf(initial, base);
  const shape = Object.fromEntries(SHAPING.map((field) => [field, own[field]]));
  // These settings depend on each other.
  const selects = SELECTING.some((field) => given[field] !== undefined);
  const set = SELECTING.filter((field) => own[field] !== undefined);
  const selection = selects ? {} : Object.fromEntries(set.map((field) => [field, own[field]]));
  return { ...shape, ...selection, ...given };
}

/** Why a job cannot continue an adapter: another base, other layers, other ranks or scales. Digests that are not known are not compared. */
export function initialAdapterFaults(
  job: { lora: LoraSettings; base: Partial<BaseIdentity>; targets: readonly Target[] },
  initial: AdapterManifest,
): CodedFault[] {
  const mismatch = baseMismatch(initial.id, initial.base_model, job.base);
  if (mismatch !== null) return [{ code: 'invalid_adapter', message: mismatch, param: 'lora.init_from' }];
  return [...layerFaults(job.targets, initial), ...shapeFaults(job, initial)];
}

function layerFaults(targets: readonly Target[], { id, lora }: AdapterManifest): CodedFault[] {
  const wanted = new Set(targets.map(({ name }) => name));
  const missing = [...wanted].find((name) => !lora.modules.includes(name));
  const further = lora.modules.find((name) => !wanted.has(name));
  if (missing === undefined && further === undefined) return [];
  const which = missing === undefined ? `also adapts ${further}` : `has nothing for ${missing}`;
  const message = `${id} ${which}: leave out ${SELECTING.slice(0, -1).join(', ')} and ${SELECTING.at(-1)} to use its layers.`;
  return [{ code: 'invalid_job', message, param: 'lora.target_modules' }];
}

function shapeFaults(
  { lora, targets }: { lora: LoraSettings; targets: readonly Target[] },
  initial: AdapterManifest,
): CodedFault[] {
  const own = settingsOf(initial, { layers: [], parameters: [] });
  const plain = (['r', 'alpha', 'use_rslora'] as const).filter((field) => lora[field] !== own[field]);
  if (plain.length > 0) {
    return plain.map((field) => {
      const message = `${initial.id} has ${field} ${own[field]}, but the job asks for ${lora[field]}. Leave the field out to use the adapter's.`;
      return { code: 'invalid_job', message, param: `lora.${field}` };
    });
  }
  const theirs = new Map(withRanks(targets, own, new FaultList()).map((target) => [target.name, target]));
  return (['rank', 'scale'] as const).flatMap((part) => {
    const unlike = targets.find(({ name, [part]: value }) => theirs.get(name)![part] !== value);
    if (unlike === undefined) return [];
    const field = part === 'rank' ? 'rank_pattern' : 'alpha_pattern';
    const message = `${initial.id} has the ${part} ${theirs.get(unlike.name)![part]} for ${unlike.name}, but the job asks for ${unlike[part]}. Leave ${field} out to use the adapter's.`;
    return [{ code: 'invalid_job', message, param: `lora.${field}` }];
  });
}

/** The settings of the job that trained it, or of the files alone. */
function settingsOf({ origin, lora }: AdapterManifest, base: BaseNames): AdapterSettings {
  const made = jobOrigin(origin);
  if (made !== null) return made.settings.lora;
  const { r, alpha, rank_pattern, alpha_pattern, modules } = lora;
  const layers = modules.filter((name) => !isExpertParameter(name));
  const parameters = targetParametersOf(modules.filter(isExpertParameter), base.parameters);
  return {
    r,
    alpha,
    use_rslora: false,
    rank_pattern,
    alpha_pattern,
    target_modules: targetModulesOf(layers, base.layers),
    ...(parameters.length > 0 ? { target_parameters: parameters } : {}),
    exclude_modules: null,
    layers_to_transform: null,
  };
}
