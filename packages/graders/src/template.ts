import { JsonNumber, jsonOfNumbers, nestsDeeperThan, parseJsonNumbers } from '@lorasmith/contracts';
import { GraderError } from './grader-error.js';

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
}

/** The template that is the answer itself. */
export const ANSWER = '{{sample.output_text}}';

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
