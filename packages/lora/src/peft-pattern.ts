import { ProductError } from '@lorasmith/contracts';
import { RE2JS } from 're2js';

const MAX_PATTERNS = 4096;
const MAX_PATTERN_LENGTH = 512;

/** `rank_pattern` or `alpha_pattern` of a PEFT config: a number for the modules a key selects. */
export type PeftPattern = (moduleName: string) => number | undefined;

/**
 * Compiles a pattern table as PEFT reads it: a key selects the modules that `^(.*\.)?(KEY)$` matches, and of several
 * the first counts. Keys are regular expressions from outside, so they are matched in linear time (RE2), never by
 * backtracking; what RE2 lacks (look-around, back-references) is refused.
 *
 * @throws ProductError invalid_adapter
 */
export function compilePattern(field: string, table: unknown, isValid: (value: number) => boolean): PeftPattern {
  if (table === undefined || table === null) return () => undefined;
  if (typeof table !== 'object' || Array.isArray(table)) throw invalid(field, 'must be an object');
  const entries = Object.entries(table);
  if (entries.length > MAX_PATTERNS) throw invalid(field, `has more than ${MAX_PATTERNS} entries`);
  const compiled = entries.map(([key, value]) => {
    if (key.length > MAX_PATTERN_LENGTH) throw invalid(field, `has a key longer than ${MAX_PATTERN_LENGTH} characters`);
    if (typeof value !== 'number' || !isValid(value)) throw invalid(field, `has an invalid value for ${key}`);
    return { matches: moduleMatcher(field, key), value };
  });
  return (moduleName) => compiled.find(({ matches }) => matches(moduleName))?.value;
}

function moduleMatcher(field: string, key: string): (moduleName: string) => boolean {
  // Nearly every key is a plain name, in which a dot as "any character" would select the same modules.
  if (/^[\w.-]+$/.test(key)) {
    const suffix = `.${key}`;
    return (moduleName) => moduleName === key || moduleName.endsWith(suffix);
  }
  try {
    const expression = RE2JS.compile(`(?:.*\\.)?(?:${key})`);
    return (moduleName) => expression.matches(moduleName);
  } catch (cause) {
    throw invalid(field, `has the key ${key}, which is not a regular expression that can be matched here`, cause);
  }
}

function invalid(field: string, fault: string, cause?: unknown): ProductError {
  return new ProductError('invalid_adapter', `adapter_config.json: ${field} ${fault}.`, { param: field, cause });
}
