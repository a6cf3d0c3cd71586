import type { AdaptableModule, Fault } from '@lorasmith/contracts';
import { type FamilyName, hasSuffix, lastPartOf, type ModelFolder } from '@lorasmith/model-folder';

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

/** A warning of a job on MLPs beside or in the place of experts, whose adapter PEFT would load onto the experts. */
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
