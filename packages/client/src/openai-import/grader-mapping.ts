import { type Grader, ProductError, type SimpleGrader } from '@lorasmith/contracts';
import { isRecord } from './source.js';

/** A grader of OpenAI's as one of ours. */
export interface MappedGrader {
  grader: Grader;
  /** The differences from the grader there, a sentence each. */
  differs: string[];
}

/** Similarities that both have. */
const METRICS = ['fuzzy_match', 'rouge_1', 'rouge_2', 'rouge_l'] as const;
const OPERATIONS = ['eq', 'ne', 'like', 'ilike'] as const;
/** Why a grader of theirs has no counterpart. */
const LACKING: Readonly<Record<string, string>> = {
  score_model: 'asks a model of OpenAI, and ours asks one that the operator of this service has named',
  label_model: 'asks a model of OpenAI',
  python: 'runs code, and no code of a request is run here',
  endpoint: 'asks a service through OpenAI',
};
const INSTEAD = 'A grader of the type webhook can do it: train the rows with POST /jobs.';

/** Graders of one number, by their type. */
const SIMPLE: Readonly<Record<string, (given: Record<string, unknown>) => SimpleGrader>> = {
  string_check: ({ input, reference, operation }) => ({
    type: 'string_check',
    input: templateOf(input, 'input'),
    reference: templateOf(reference, 'reference'),
    operation: oneOf(OPERATIONS, operation, 'operation'),
  }),
  text_similarity: ({ input, reference, evaluation_metric: metric }) => ({
    type: 'text_similarity',
    input: templateOf(input, 'input'),
    reference: templateOf(reference, 'reference'),
    evaluation_metric: oneOf(METRICS, metric, 'evaluation_metric'),
  }),
};

/**
 * The grader of a reinforcement job there, for rows whose other fields are the reference here.
 * @throws ProductError `invalid_job` if ours cannot do the same
 */
export function graderOf(given: unknown): MappedGrader {
  if (!isRecord(given)) throw refused('It has no grader that can be read.');
  const { type } = given;
  if (type !== 'multi') {
    const grader = simpleOf(given);
    return { grader, differs: differences([grader]) };
  }
  const { graders, calculate_output: formula } = given;
  if (!isRecord(graders) || typeof formula !== 'string')
    throw refused('Its grader of the type multi lacks graders or a formula.');
  const named = Object.entries(graders).map(([name, one]) => [name, simpleOf(one)] as const);
  const grader: Grader = { type: 'multi', graders: Object.fromEntries(named), calculate_output: formula };
  return { grader, differs: differences(named.map(([, one]) => one)) };
}

function simpleOf(given: unknown): SimpleGrader {
  if (!isRecord(given) || typeof given.type !== 'string') throw refused('A grader has no type.');
  const { type } = given;
  if (Object.hasOwn(SIMPLE, type)) return SIMPLE[type]!(given);
  const why = Object.hasOwn(LACKING, type) ? LACKING[type]! : 'is not known here';
  throw refused(`Its grader ${JSON.stringify(type.slice(0, 64))} ${why}. ${INSTEAD}`);
}

function differences(graders: readonly SimpleGrader[]): string[] {
  const isFuzzy = graders.some(({ evaluation_metric: metric }) => metric === 'fuzzy_match');
  return isFuzzy
    ? ['fuzzy_match is the share of the longest common subsequence here; there it is that of rapidfuzz.']
    : [];
}

/** Fields of a row there are fields of its reference here. */
function templateOf(given: unknown, field: string): string {
  if (typeof given !== 'string') throw refused(`The ${field} of its grader is not a text.`);
  return given.replaceAll(/\{\{\s*([\w.]+)\s*\}\}/g, (_, name: string) =>
    name.startsWith('item.') ? `{{item.reference.${name.slice('item.'.length)}}}` : `{{${name}}}`,
  );
}

function oneOf<Value extends string>(known: readonly Value[], given: unknown, field: string): Value {
  const found = known.find((one) => one === given);
  if (found !== undefined) return found;
  const name = typeof given === 'string' ? given.slice(0, 64) : given;
  throw refused(
    `The ${field} ${JSON.stringify(name)} of its grader is not there here: only ${known.join(', ')}. ${INSTEAD}`,
  );
}

function refused(message: string): ProductError {
  return new ProductError('invalid_job', message, { param: 'method.reinforcement.grader' });
}
