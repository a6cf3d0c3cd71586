import { RE2JS } from 're2js';

/**
 * RE2 takes time in proportion to the length of the name times the size of the compiled expression, and each is matched
 * with every layer. A real one has some dozen instructions, one that lists a hundred layers a thousand.
 */
const MAX_PROGRAM_SIZE = 5_000;
/** Of keys that are more than a name. */
const MAX_EXPRESSIONS = 64;

const PLAIN_NAME = /^[\w.-]+$/;

/** A number for the modules that a key selects; undefined for the others. */
export type ModulePattern = (moduleName: string) => number | undefined;

/** A regular expression that cannot be used here: `what` says why. */
export class PatternError extends Error {
  readonly what: string;
  constructor(source: string, what: string, cause?: unknown) {
    super(`${JSON.stringify(source.slice(0, 200))} is not a supported regular expression: ${what}`, {
      cause,
    });
    this.name = 'PatternError';
    this.what = what;
  }
}

/**
 * Compiles an expression that must match a whole name. It comes from outside, so it is matched in linear time (RE2),
 * never by backtracking; what RE2 lacks (look-around, back-references) is refused.
 * @throws PatternError
 */
export function wholeNameMatcher(source: string): (moduleName: string) => boolean {
  const expression = compile(source, source);
  return (moduleName) => expression.matches(moduleName);
}

/**
 * Compiles a key of PEFT's `rank_pattern` or `alpha_pattern`, which selects the modules that `^(.*\.)?(KEY)$` matches.
 * @throws PatternError
 */
export function patternKeyMatcher(key: string): (moduleName: string) => boolean {
  // Nearly every key is a plain name, in which a dot as "any character" would select the same modules.
  if (PLAIN_NAME.test(key)) return (moduleName) => hasSuffix(moduleName, key);
  const expression = compile(`(?:.*\\.)?(?:${key})`, key);
  return (moduleName) => expression.matches(moduleName);
}

/** The table as PEFT reads it: of several keys that select a module the first counts. @throws PatternError */
export function compileModulePattern(table: Readonly<Record<string, number>>): ModulePattern {
  const expressions = Object.keys(table).filter((key) => !PLAIN_NAME.test(key));
  if (expressions.length > MAX_EXPRESSIONS) {
    throw new PatternError(expressions[MAX_EXPRESSIONS]!, `there are more than ${MAX_EXPRESSIONS} expressions`);
  }
  const compiled = Object.entries(table).map(([key, value]) => ({ matches: patternKeyMatcher(key), value }));
  return (moduleName) => compiled.find(({ matches }) => matches(moduleName))?.value;
}

/** `q_proj` of `model.layers.0.self_attn.q_proj`. */
export function lastPartOf(moduleName: string): string {
  return moduleName.slice(moduleName.lastIndexOf('.') + 1);
}

/**
 * The shortest list of `target_modules` that selects exactly these modules: the last parts of their names when no other
 * linear layer of the base ends in one of them, else the full names.
 */
export function targetModulesOf(adapted: Iterable<string>, linearModules: Iterable<string>): string[] {
  const names = new Set(adapted);
  const suffixes = new Set([...names].map(lastPartOf));
  const selectsMore = [...linearModules].some((name) => suffixes.has(lastPartOf(name)) && !names.has(name));
  return [...(selectsMore ? names : suffixes)].sort();
}

/** Whether a name is the suffix, or ends in it from a dot on. */
export function hasSuffix(moduleName: string, suffix: string): boolean {
  return moduleName === suffix || moduleName.endsWith(`.${suffix}`);
}

function compile(expression: string, source: string): RE2JS {
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(expression);
  } catch (cause) {
    throw new PatternError(source, (cause as Error).message.replace(/^error parsing regexp: /, ''), cause);
  }
  if (compiled.programSize() > MAX_PROGRAM_SIZE) throw new PatternError(source, 'its compiled form is too large');
  return compiled;
}
