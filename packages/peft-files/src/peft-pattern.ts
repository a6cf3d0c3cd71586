import { ProductError } from '@lorasmith/contracts';
import { compileModulePattern, type ModulePattern, PatternError } from '@lorasmith/model-folder';

const MAX_PATTERNS = 4096;
const MAX_PATTERN_LENGTH = 512;

/**
 * Reads `rank_pattern` or `alpha_pattern` of a PEFT config: a number for the modules a key selects.
 *
 * @throws ProductError invalid_adapter
 */
export function compilePattern(field: string, table: unknown, isValid: (value: number) => boolean): ModulePattern {
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
    throw invalid(field, `has a key that cannot be matched here: ${error.message}`, error);
  }
}

function invalid(field: string, fault: string, cause?: unknown): ProductError {
  return new ProductError('invalid_adapter', `adapter_config.json: ${field} ${fault}.`, { param: field, cause });
}
