import { RE2JS } from 're2js';

/**
 * Limit for a compiled expression. RE2 takes time proportional to the length of the name times this size, and every
 * expression is matched against every layer. Real ones have a few dozen instructions; a list of a hundred layers has about
 * a thousand.
 */
const MAX_PROGRAM_SIZE = 5_000;
/** Limit for the keys of a table that are not plain names. */
const MAX_EXPRESSIONS = 64;
/** Limits, for docs/limits.md. */
export const patternLimits = {
  program: { value: MAX_PROGRAM_SIZE, unit: 'instructions', beyond: '422 `invalid_job`' },
  expressions: { value: MAX_EXPRESSIONS, unit: 'expressions', beyond: '422 `invalid_job`' },
};

const PLAIN_NAME = /^[\w.-]+$/;

/** The number for a module; undefined if no key matches it. */
export type ModulePattern = (moduleName: string) => number | undefined;

/** A regular expression that is not supported; `what` is the reason. */
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
 * Compiles an expression that must match a complete name. Expressions are untrusted, so RE2 matches them in linear time,
 * without backtracking. Lookaround and back-references, which RE2 lacks, are rejected.
 * @throws PatternError
 */
export function wholeNameMatcher(source: string): (moduleName: string) => boolean {
  const expression = compile(source, source);
  return (moduleName) => expression.matches(moduleName);
}

/**
 * Compiles a key of PEFT's `rank_pattern` or `alpha_pattern`. It selects the modules that `^(.*\.)?(KEY)$` matches.
 * @throws PatternError
 */
export function patternKeyMatcher(key: string): (moduleName: string) => boolean {
  // Nearly every key is a plain name. Reading its dots as "any character" would select the same modules.
  if (PLAIN_NAME.test(key)) return (moduleName) => hasSuffix(moduleName, key);
  const expression = compile(`(?:.*\\.)?(?:${key})`, key);
  return (moduleName) => expression.matches(moduleName);
}

/** Compiles a table as PEFT reads it: the first key that matches a module applies. @throws PatternError */
export function compileModulePattern(table: Readonly<Record<string, number>>): ModulePattern {
  const expressions = Object.keys(table).filter((key) => !PLAIN_NAME.test(key));
  if (expressions.length > MAX_EXPRESSIONS) {
    throw new PatternError(expressions[MAX_EXPRESSIONS]!, `there are more than ${MAX_EXPRESSIONS} expressions`);
  }
  const compiled = Object.entries(table).map(([key, value]) => ({ matches: patternKeyMatcher(key), value }));
  return (moduleName) => compiled.find(({ matches }) => matches(moduleName))?.value;
}

/** The last part of a name, for instance `q_proj` for `model.layers.0.self_attn.q_proj`. */
export function lastPartOf(moduleName: string): string {
  return moduleName.slice(moduleName.lastIndexOf('.') + 1);
}

/**
 * The shortest list of `target_modules` that selects exactly these modules: the last parts of their names, or the full
 * names if another linear layer of the base has the same last part.
 */
export function targetModulesOf(adapted: Iterable<string>, linearModules: Iterable<string>): string[] {
  const names = new Set(adapted);
  const suffixes = new Set([...names].map(lastPartOf));
  const selectsMore = [...linearModules].some((name) => suffixes.has(lastPartOf(name)) && !names.has(name));
  return [...(selectsMore ? names : suffixes)].sort();
}

/** True if a name equals the suffix, or ends with a dot and the suffix. */
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

/**
 * The parameters of a module of experts, each with the weights of all of them, in the order in which transformers' classes declare
 * them.
 */
export const EXPERT_PARAMETERS = ['gate_up_proj', 'down_proj'] as const;
/** The last part of the name of a module of experts, in all families of transformers 5. */
const EXPERTS = 'experts';

/** True of the name of a parameter of experts, for instance `model.layers.0.mlp.experts.down_proj`. */
export function isExpertParameter(name: string): boolean {
  return EXPERT_PARAMETERS.some((parameter) => hasSuffix(name, `${EXPERTS}.${parameter}`));
}

/** The full names of the parameters that a module of experts may have, in their order; none for another module. */
export function expertParametersOf(module: string): string[] {
  return hasSuffix(module, EXPERTS) ? EXPERT_PARAMETERS.map((parameter) => `${module}.${parameter}`) : [];
}

/**
 * The shortest list of `target_parameters` that selects exactly these parameters: their names within a layer, for instance
 * `mlp.experts.down_proj`, or the full names if the base has others with such a name.
 */
export function targetParametersOf(adapted: Iterable<string>, ofBase: Iterable<string>): string[] {
  const names = new Set(adapted);
  const suffixes = new Set([...names].map(shortName));
  const selectsMore = [...ofBase].some((name) => suffixes.has(shortName(name)) && !names.has(name));
  return [...(selectsMore ? names : suffixes)].sort();
}

/** The name within a layer: what follows the last index. */
function shortName(parameter: string): string {
  return parameter.replace(/^.*\.\d+\./, '');
}
