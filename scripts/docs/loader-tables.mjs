import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';

/** A folder for each case. */
const FAMILIES_DIR = path.join(ROOT_DIR, 'test/fixtures/families');

/** @typedef {{ name: string, family: string, results: Readonly<Record<string, string>> }} Case */

const PEFT = 'PEFT, adapter';
const TRANSFORMERS = 'transformers, merged';
const LLAMA = 'llama.cpp';
const LLAMA_MERGED = 'llama.cpp, merged f32';
const LLAMA_ADAPTER = 'llama.cpp, base and adapter';
const VLLM = 'vLLM, base and adapter';
const VLLM_MERGED = 'vLLM, merged';

/** The cases of test/fixtures/families with what `npm run check-loaders -- --record` kept of them. @returns {Promise<Case[]>} */
export async function loadCases() {
  const results = JSON.parse(await readFile(path.join(ROOT_DIR, 'test/checks/check-loaders/results.json'), 'utf8'));
  return await Promise.all(
    (await readdir(FAMILIES_DIR)).sort().map(async (name) => {
      const config = JSON.parse(await readFile(path.join(FAMILIES_DIR, name, 'base/config.json'), 'utf8'));
      return { name, family: config.model_type, results: results[name] ?? {} };
    }),
  );
}

/**
 * A table of what each family's models load in.
 * @param {Case[]} cases
 * @param {ReadonlyMap<string, { covers: string | null }>} families @returns {string} Markdown
 */
export function familyTable(cases, families) {
  const rows = [...families].flatMap(([family, { covers }]) => {
    if (covers === null) return [];
    const own = cases.filter((one) => one.family === family);
    const both = (/** @type {Case} */ { results }) => isMatch(results[PEFT]) && isMatch(results[TRANSFORMERS]);
    const cells = [
      `${own.length}`,
      cellOf(own, [[both, 'yes']], () => undefined),
      cellOf(
        own,
        [
          [({ results }) => isMatch(results[LLAMA_MERGED]) && isMatch(results[LLAMA_ADAPTER]), 'yes'],
          [({ results }) => isMatch(results[LLAMA_MERGED]), 'merged'],
        ],
        ({ results }) => results[LLAMA],
      ),
      cellOf(
        own,
        [
          [({ results }) => isMatch(results[VLLM]), 'yes'],
          [({ results }) => isMatch(results[VLLM_MERGED]), 'merged'],
        ],
        ({ results }) => results[VLLM],
      ),
    ];
    return `| \`${family}\` | ${covers} | ${cells.join(' | ')} |`;
  });
  const head = ['`model_type`', 'Covers', 'Cases', 'PEFT and transformers', 'llama.cpp', 'vLLM'];
  return [`| ${head.join(' | ')} |`, `|${' --- |'.repeat(head.length)}`, ...rows].join('\n');
}

/**
 * @param {Case[]} cases
 * @param {[holds: (one: Case) => boolean, cell: string][]} answers the first that holds for a case is the family's
 * @param {(one: Case) => string | undefined} failure what a case has instead
 */
function cellOf(cases, answers, failure) {
  const failureOf = (/** @type {Case} */ one) => {
    const text = failure(one);
    if (text === undefined || isMatch(text)) return undefined;
    return text.includes('NO MATCH') ? `another answer for ${one.name}` : reasonOf(text).replace(/ in \S+ models$/, '');
  };
  const found = answers.find(([holds]) => cases.some(holds))?.[1];
  const failures = [...new Set(cases.flatMap((one) => failureOf(one) ?? []))];
  if (found === undefined) return failures.length === 0 ? 'not run' : `no: ${failures.join('; ')}`;
  return failures.length === 0 ? found : `${found}, but ${failures.join('; ')}`;
}

/** The comparisons of log-probabilities: with what result of a case, and with which other program. */
const COMPARISONS = /** @type {const} */ ([
  ['PEFT: base and adapter', PEFT, 'ours'],
  ['transformers: merged', TRANSFORMERS, 'PEFT'],
  ['llama.cpp: merged', LLAMA_MERGED, 'transformers'],
  ['llama.cpp: base and adapter', LLAMA_ADAPTER, 'transformers'],
  ['vLLM: base and adapter', VLLM, 'PEFT'],
  ['vLLM: merged', VLLM_MERGED, 'transformers'],
]);

/**
 * A table of how many cases each program answers alike, and of the greatest difference of a log-probability among these.
 * @param {Case[]} cases @returns {string} Markdown
 */
export function differenceTable(cases) {
  const rows = COMPARISONS.map(([what, name, reference]) => {
    const outcomes = cases
      .filter(({ results }) => Object.keys(results).length > 0)
      .map(({ results }) =>
        name.startsWith(LLAMA) && results[LLAMA] !== undefined ? 'refused' : differenceOf(results[name], reference),
      );
    const matches = outcomes.map(Number).filter((difference) => !Number.isNaN(difference));
    const count = (/** @type {string} */ beginning) => outcomes.filter((one) => one.startsWith(beginning)).length;
    const others = [count('NO MATCH'), count('refused'), count('not run')];
    return `| ${[what, reference, matches.length, Math.max(...matches).toExponential(1), ...others].join(' | ')} |`;
  });
  const head = [
    'Loaded in',
    'Compared with',
    'Same answers',
    'Greatest difference',
    'Other answers',
    'Refused',
    'Not run',
  ];
  return [`| ${head.join(' | ')} |`, `|${' --- |'.repeat(head.length)}`, ...rows].join('\n');
}

/** @param {string | undefined} result */
function isMatch(result) {
  return result !== undefined && !/NO MATCH|refused|FAILED/.test(result);
}

/** @param {string | undefined} result @param {string} reference */
function differenceOf(result, reference) {
  if (result === undefined) return 'not run';
  if (result.startsWith('refused')) return 'refused';
  const [, noMatch, difference] = new RegExp(`(NO MATCH )?${reference} ([^,:]+)`).exec(result) ?? [];
  if (difference === undefined)
    throw new Error(`test/checks/check-loaders/results.json: "${result}" has no ${reference}`);
  return noMatch === undefined ? difference : `NO MATCH: ${difference}`;
}

/** @param {string} result */
function reasonOf(result) {
  const reason = result.replace(/^refused: /, '').replace(/\.$/, '');
  return (
    reason
      .replace(/^.* cannot be written as GGUF: /, '')
      .replace(/^llama\.cpp has /, '')
      .replace(/ \(it is [\d.]+\)/, '')
      // The page explains the rest, which is the same in many rows.
      .replace(' of mixtures on processors, which have no Triton', ' of mixtures')
  );
}
