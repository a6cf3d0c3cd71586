import {
  type GradedItem,
  type GradedPromptRow,
  type Grader,
  type GraderType,
  JsonNumber,
  type Judge,
  type JudgedItem,
  jsonOfNumbers,
  MAX_GRADED_AT_ONCE,
  MAX_JUDGED_AT_ONCE,
  nestsDeeperThan,
  parseJsonNumbers,
  type SimpleGrader,
} from '@lorasmith/contracts';
import { checkSchema, GrammarTooLargeError, SchemaError } from '@lorasmith/json-grammar';
import { RE2JS } from 're2js';
import { Check } from 'typebox/schema';
import { GraderError, parseFormula } from './formula.js';
import { fuzzyMatch, rougeL, rougeN } from './similarity.js';

/** An answer to be graded. */
export interface GradedAnswer {
  /** The row of its prompt; a number may be a JsonNumber, which templates write as it stands. */
  item: unknown;
  /** The answer. */
  text: string;
}

/** A text with places for fields of a row and of an answer. */
export interface Template {
  /** @returns the text; where the answer is no JSON, or has no such field, nothing is in its place */
  render(answer: GradedAnswer): string;
  /** The first field that a row lacks, as `item.reference`; null: it has all. */
  missingIn(item: unknown): string | null;
  /** True if it has a place for the answer, or for a part of it. */
  hasAnswer: boolean;
}

/** The template that is the answer itself. */
const ANSWER = '{{sample.output_text}}';

const PLACE = /\{\{([^{}]*)\}\}/g;
const FIELDS = /^[\w-]+(\.[\w-]+)*$/;

type Part = string | { from: 'item' | 'json'; path: readonly string[]; name: string } | { from: 'text' };

/** @param param the setting that has it. @throws GraderError */
export function parseTemplate(text: string, param: string): Template {
  const parts: Part[] = [];
  let end = 0;
  for (const { 0: place, 1: inner, index } of text.matchAll(PLACE)) {
    parts.push(text.slice(end, index), partOf(inner!.trim(), param));
    end = index + place.length;
  }
  parts.push(text.slice(end));
  const ofRow = parts.flatMap((part) => (typeof part === 'object' && part.from === 'item' ? [part] : []));
  return {
    render: (answer) => parts.map((part) => textOf(part, answer)).join(''),
    missingIn: (item) => ofRow.find(({ path }) => fieldOf(item, path) === undefined)?.name ?? null,
    hasAnswer: parts.some((part) => typeof part === 'object' && part.from !== 'item'),
  };
}

function partOf(name: string, param: string): Part {
  if (name === 'sample.output_text') return { from: 'text' };
  const [, source, fields] = /^(item|sample\.output_json)\.(.+)$/.exec(name) ?? [];
  if (fields !== undefined && FIELDS.test(fields)) {
    return { from: source === 'item' ? 'item' : 'json', path: fields.split('.'), name };
  }
  const known = '{{item.FIELD}}, {{sample.output_text}} and {{sample.output_json.FIELD}}';
  throw new GraderError(param, `There is no {{${name.slice(0, 100)}}}: templates have ${known}.`);
}

function textOf(part: Part, { item, text }: GradedAnswer): string {
  if (typeof part === 'string') return part;
  if (part.from === 'text') return text;
  const value = fieldOf(part.from === 'item' ? item : parsed(text), part.path);
  if (value === undefined) return '';
  return typeof value === 'string' ? value : jsonOfNumbers(value);
}

/** Deeper answers are no JSON: writing one would need more stack than there is. */
const MAX_ANSWER_DEPTH = 512;

function parsed(text: string): unknown {
  if (nestsDeeperThan(MAX_ANSWER_DEPTH, text)) return undefined;
  try {
    return parseJsonNumbers(text);
  } catch {
    return undefined;
  }
}

function fieldOf(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, key) => {
    const isObject =
      typeof inner === 'object' && inner !== null && !(inner instanceof JsonNumber) && Object.hasOwn(inner, key);
    return isObject ? (inner as Record<string, unknown>)[key] : undefined;
  }, value);
}

/** A number with an optional sign, thousands separators, a fraction and an exponent. The minus of typesetting (U+2212) is one. */
const NUMBER =
  /[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+\u2212]?\d+)?|[-+\u2212]?\.\d+(?:e[-+\u2212]?\d+)?/gi;
const PARTS = /^([-+]?)(\d*)(?:\.(\d+))?(?:e([-+]?\d+))?$/i;
/** Longer ones are no numbers that anyone compares. */
const MAX_CHARACTERS = 100;
/** So that the digits of a number stay few: JavaScript's numbers end at 308. */
const MAX_EXPONENT = 1_000;

/** A decimal number as it is written: `digits` × 10^`exponent`. */
interface Decimal {
  digits: bigint;
  exponent: number;
}

/** The last number in a text; null: there is none. A comma between three digits and three is a separator of thousands. */
function lastNumberIn(text: string): Decimal | null {
  const last = text.match(NUMBER)?.at(-1);
  return last === undefined || last.length > MAX_CHARACTERS ? null : decimalOf(last);
}

/** True if two numbers differ by at most the tolerance, all three as they are written: 0.31 is within 0.01 of 0.3. */
function areWithin(tolerance: number, one: Decimal, other: Decimal): boolean {
  const most = decimalOf(String(tolerance));
  if (most === null) return false;
  const exponent = Math.min(one.exponent, other.exponent, most.exponent);
  const scaled = (decimal: Decimal) => decimal.digits * 10n ** BigInt(decimal.exponent - exponent);
  const difference = scaled(one) - scaled(other);
  return (difference < 0n ? -difference : difference) <= scaled(most);
}

/** Null for an exponent beyond those that are compared. */
function decimalOf(literal: string): Decimal | null {
  const text = literal.replaceAll(',', '').replaceAll('\u2212', '-');
  const [, sign = '', whole = '', fraction = '', power = '0'] = PARTS.exec(text) ?? [];
  const digits = BigInt(`${sign === '-' ? '-' : ''}${whole}${fraction}`);
  if (digits === 0n) return { digits, exponent: 0 };
  const exponent = Number(power) - fraction.length;
  return Math.abs(exponent) <= MAX_EXPONENT ? { digits, exponent } : null;
}

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
  score_model: { needs: ['model', 'input'], may: ['url', 'pattern', 'ignore_case', 'range', 'timeout_seconds'] },
};
type Setting = Exclude<keyof Grader, 'type'>;

/** A sampled answer, with what others than its text may be told of it. */
export interface SampledAnswerText extends GradedAnswer {
  /** The line of the row, from 1. */
  line: number;
  tokens: number;
  /** False: it was cut. */
  hasEnded: boolean;
}

/** A grader outside of this process, which is asked for the rewards of some answers at a time. */
export interface OutsideGrader {
  kind: 'outside';
  /** The most answers that it is asked for at once. */
  most: number;
  /** The fault of a row that lacks what it reads, in a sentence; null: it takes any row. */
  faultOf: CompiledGrader['faultOf'] | null;
  /** The object that it is sent for an answer, with each number as it stands in the row. */
  itemOf(answer: SampledAnswerText): object;
}

/** @throws GraderError for settings that contradict each other, or cannot be read */
export function compileGrader(grader: Grader): CompiledGrader | OutsideGrader {
  checkSettings(grader);
  if (grader.type === 'webhook') return WEBHOOK;
  if (grader.type === 'score_model') return compileJudge(grader);
  return grader.type === 'multi' ? compileMulti(grader) : compileSimple({ ...grader, type: grader.type });
}

/** A service of the job's owner, which gets the row and the answer. */
const WEBHOOK: OutsideGrader = {
  kind: 'outside',
  most: MAX_GRADED_AT_ONCE,
  faultOf: null,
  itemOf({ line, item, text, tokens, hasEnded }) {
    const { prompt, reference } = item as GradedPromptRow;
    const about = { completion_tokens: tokens, finish_reason: hasEnded ? 'stop' : 'length' } as const;
    return { line, prompt, reference, completion: text, ...about } satisfies GradedItem;
  },
};

/** A model, which gets a message with the rubric. */
function compileJudge({
  input = '',
  pattern,
  ignore_case: ignoreCase,
  range: [least, highest] = [0, 1],
}: Grader): OutsideGrader {
  const message = parseTemplate(input, 'input');
  if (!message.hasAnswer) {
    throw new GraderError('input', `The message to the model has no answer to score. Add ${ANSWER} to it.`);
  }
  if (pattern !== undefined) compilePattern(pattern, ignoreCase ?? false);
  else if (ignoreCase !== undefined) throw new GraderError('ignore_case', 'ignore_case needs a pattern. Leave it out.');
  if (least! >= highest!) throw new GraderError('range', 'The first number of range must be less than the second.');
  return {
    kind: 'outside',
    most: MAX_JUDGED_AT_ONCE,
    faultOf(item) {
      const missing = message.missingIn(item);
      return missing === null ? null : lacks(missing);
    },
    itemOf: ({ line, ...answer }) => ({ line, message: message.render(answer) }) satisfies JudgedItem,
  };
}

/** A function that finds the score in what a judge says; null: there is none within its range. */
export function scoreReader({ pattern, ignoreCase, range: [least, highest] }: Judge): (said: string) => number | null {
  const compiled = pattern === null ? null : compilePattern(pattern, ignoreCase);
  const numberIn = (said: string): Decimal | null => {
    if (compiled === null) return lastNumberIn(said);
    const matcher = compiled.matcher(said);
    if (!matcher.find()) return null;
    return lastNumberIn((matcher.groupCount() > 0 ? matcher.group(1) : matcher.group()) ?? '');
  };
  return (said) => {
    const found = numberIn(said);
    const score = found === null ? Number.NaN : Number(`${found.digits}e${found.exponent}`);
    return score >= least && score <= highest ? score : null;
  };
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
      if (missing !== null) return lacks(missing);
      if (grader.type !== 'number') return null;
      const text = reference!.render({ item, text: '' });
      if (lastNumberIn(text) !== null) return null;
      return `The reference of the grader is ${JSON.stringify(text.slice(0, 100))}, which is no number.`;
    },
    grade: (answer) => score(input.render(answer), answer),
  };
}

/** @param field as `item.reference` */
function lacks(field: string): string {
  return `The row has no ${field.replace(/^item\./, '')}, which the grader reads.`;
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

/** @throws GraderError for one that is not of RE2's syntax, or too large */
export function compilePattern(pattern: string, ignoreCase: boolean): RE2JS {
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
