import type { Grader, GraderType, SimpleGrader } from '@lorasmith/contracts';
import { checkSchema, GrammarTooLargeError, SchemaError } from '@lorasmith/json-grammar';
import { RE2JS } from 're2js';
import { Check } from 'typebox/schema';
import { GraderError, parseFormula } from './formula.js';
import { fuzzyMatch, rougeL, rougeN } from './similarity.js';
import { ANSWER, areWithin, type GradedAnswer, lastNumberIn, parseTemplate, type Template } from './template.js';

export type { GradedAnswer } from './template.js';

/** A grader that is ready, and calculates rewards here. */
export interface CompiledGrader {
  kind: 'here';
  /** The fault of a row that lacks what it reads, in a sentence; null: there is none. */
  faultOf(item: unknown): string | null;
  /** @returns the reward; NaN or infinite only by a formula */
  grade(answer: GradedAnswer): number;
}

/** The settings that each type needs, and those that it may have. */
const SETTINGS: Readonly<Record<GraderType, { needs: readonly Setting[]; may: readonly Setting[] }>> = {
  string_check: { needs: ['reference', 'operation'], may: ['input'] },
  regex: { needs: ['pattern'], may: ['input', 'ignore_case'] },
  number: { needs: ['reference'], may: ['input', 'tolerance'] },
  json_schema: { needs: ['schema'], may: ['input'] },
  text_similarity: { needs: ['reference', 'evaluation_metric'], may: ['input'] },
  multi: { needs: ['graders', 'calculate_output'], may: [] },
  webhook: { needs: ['url'], may: ['timeout_seconds'] },
};
type Setting = Exclude<keyof Grader, 'type'>;

/** A grader whose rewards come from a service of the job's owner. It takes any row. */
export interface WebhookGrader {
  kind: 'webhook';
}

/** @throws GraderError for settings that contradict each other, or cannot be read */
export function compileGrader(grader: Grader): CompiledGrader | WebhookGrader {
  checkSettings(grader);
  if (grader.type === 'webhook') return { kind: 'webhook' };
  return grader.type === 'multi' ? compileMulti(grader) : compileSimple({ ...grader, type: grader.type });
}

function checkSettings(grader: Grader | SimpleGrader): void {
  const { needs, may } = SETTINGS[grader.type];
  const given = Object.keys(grader).filter((setting) => setting !== 'type') as Setting[];
  const missing = needs.find((setting) => !given.includes(setting));
  if (missing !== undefined) throw new GraderError(missing, `A grader of type ${grader.type} needs ${missing}.`);
  const other = given.find((setting) => !needs.includes(setting) && !may.includes(setting));
  if (other !== undefined)
    throw new GraderError(other, `A grader of type ${grader.type} has no ${other}. Leave it out.`);
}

function compileMulti({ graders = {}, calculate_output: formula = '' }: Grader): CompiledGrader {
  const { names, value } = parseFormula(formula);
  const compiled = Object.entries(graders).map(([name, grader]): [string, CompiledGrader] => {
    try {
      checkSettings(grader);
      return [name, compileSimple(grader)];
    } catch (error) {
      throw error instanceof GraderError ? error.within(`graders.${name}`) : error;
    }
  });
  const unknown = [...names].find((name) => !Object.hasOwn(graders, name));
  if (unknown !== undefined) {
    const known = Object.keys(graders).join(', ');
    throw new GraderError('calculate_output', `The formula has ${unknown}, which is no grader: there are ${known}.`);
  }
  const unused = Object.keys(graders).find((name) => !names.has(name));
  if (unused !== undefined) {
    throw new GraderError(
      `graders.${unused}`,
      `The formula does not have the grader ${unused}. Leave it out, or add it.`,
    );
  }
  return {
    kind: 'here',
    faultOf: (item) => compiled.map(([, grader]) => grader.faultOf(item)).find((fault) => fault !== null) ?? null,
    grade: (answer) => value(new Map(compiled.map(([name, grader]) => [name, grader.grade(answer)]))),
  };
}

function compileSimple(grader: SimpleGrader): CompiledGrader {
  const input = parseTemplate(grader.input ?? ANSWER, 'input');
  const reference = grader.reference === undefined ? null : parseTemplate(grader.reference, 'reference');
  const score = scoreOf(grader, reference);
  return {
    kind: 'here',
    faultOf(item) {
      const missing = input.missingIn(item) ?? reference?.missingIn(item) ?? null;
      if (missing !== null) return `The row has no ${missing.replace(/^item\./, '')}, which the grader reads.`;
      if (grader.type !== 'number') return null;
      const text = reference!.render({ item, text: '' });
      if (lastNumberIn(text) !== null) return null;
      return `The reference of the grader is ${JSON.stringify(text.slice(0, 100))}, which is no number.`;
    },
    grade: (answer) => score(input.render(answer), answer),
  };
}

/** The score of the input of an answer. */
type Score = (input: string, answer: GradedAnswer) => number;

/** @param reference that the type needs */
function scoreOf(grader: SimpleGrader, reference: Template | null): Score {
  const withReference =
    (score: (input: string, reference: string) => number): Score =>
    (input, answer) =>
      score(input, reference!.render(answer));
  const isTrue = (value: boolean) => (value ? 1 : 0);
  switch (grader.type) {
    case 'string_check': {
      const holds = OPERATIONS[grader.operation!];
      return withReference((input, wanted) => isTrue(holds(input, wanted)));
    }
    case 'regex': {
      const pattern = compilePattern(grader.pattern!, grader.ignore_case ?? false);
      return (input) => isTrue(pattern.matcher(input).find());
    }
    case 'number': {
      const { tolerance = 0 } = grader;
      return withReference((input, wanted) => {
        const [found, target] = [lastNumberIn(input), lastNumberIn(wanted)];
        return isTrue(found !== null && target !== null && areWithin(tolerance, found, target));
      });
    }
    case 'json_schema': {
      const { schema } = grader;
      refuseSchema(schema);
      return (input) => isTrue(isJsonOf(schema as object | boolean, input));
    }
    case 'text_similarity':
      return withReference(METRICS[grader.evaluation_metric!]);
  }
}

const OPERATIONS: Record<NonNullable<SimpleGrader['operation']>, (input: string, reference: string) => boolean> = {
  eq: (input, reference) => input === reference,
  ne: (input, reference) => input !== reference,
  like: (input, reference) => input.includes(reference),
  ilike: (input, reference) => input.toLowerCase().includes(reference.toLowerCase()),
};

const METRICS: Record<NonNullable<SimpleGrader['evaluation_metric']>, (input: string, reference: string) => number> = {
  fuzzy_match: fuzzyMatch,
  rouge_1: (input, reference) => rougeN(input, reference, 1),
  rouge_2: (input, reference) => rougeN(input, reference, 2),
  rouge_l: rougeL,
};

/** The time of a match is the length of an answer times this. */
const MAX_PROGRAM_SIZE = 1_000;

function compilePattern(pattern: string, ignoreCase: boolean): RE2JS {
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(pattern, ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
  } catch (error) {
    const why = (error as Error).message.replace(/^error parsing regexp: /, '');
    throw new GraderError('pattern', `The pattern is not of RE2's syntax: ${why}.`);
  }
  if (compiled.programSize() <= MAX_PROGRAM_SIZE) return compiled;
  const message = `The compiled pattern has ${compiled.programSize()} instructions; ${MAX_PROGRAM_SIZE} is the most. Make it shorter, or its counts lower.`;
  throw new GraderError('pattern', message);
}

/** Refuses what constrained decoding refuses: keywords that are not known, and schemas that are too large. */
function refuseSchema(schema: unknown): void {
  try {
    checkSchema(schema);
  } catch (error) {
    if (error instanceof SchemaError) {
      throw new GraderError(error.path === '' ? 'schema' : `schema.${error.path}`, error.message);
    }
    if (error instanceof GrammarTooLargeError) throw new GraderError('schema', error.message);
    throw error;
  }
}

function isJsonOf(schema: object | boolean, text: string): boolean {
  try {
    return Check(schema as never, JSON.parse(text, withoutPrototype));
  } catch (error) {
    // No JSON, or nested so deep that checking it has no stack left.
    if (error instanceof SyntaxError || error instanceof RangeError) return false;
    throw error;
  }
}

/** An object of JSON has its own members alone: without this, every one would have a `toString`. */
function withoutPrototype(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.assign(Object.create(null), value);
}
