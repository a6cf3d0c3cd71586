import { type AdaptableModule, type LoraSettings, loraScale } from '@lorasmith/contracts';
import { compileModulePattern, type ModulePattern, PatternError, patternKeyMatcher } from '@lorasmith/model-folder';
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
