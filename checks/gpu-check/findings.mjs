import { kernelChoice } from './kernel-choice.mjs';
import { neverLaunched } from './launches.mjs';
import { sizeText } from './part-lines.mjs';
import { cardName } from './parts.mjs';

/** Kernels that no part launches, and why. @type {Record<string, string>} */
export const NOT_LAUNCHED = {};

/** The size whose speed the sentence names, where it was measured. */
const HEADLINE_SIZE = '4 × 2048';

/**
 * The findings of parts, of which the report's sentence is made.
 *
 * @param {{ isEmulated: boolean, report: string, parts: readonly import('./report.mjs').PartReport[],
 *   done: Map<string, import('./run-part.mjs').PartEnd>, selfTest: any, launches: Record<string, number> }} check `selfTest`: the
 *   content of its file, or null
 * @returns {import('./verdict.mjs').Findings}
 */
export function findingsOf({ isEmulated, report, parts, done, selfTest, launches }) {
  return {
    card: cardName(done),
    isEmulated,
    report,
    selfTest: selfTest && {
      done: selfTest.done === true,
      trusted: selfTest.trusted === true,
      error: selfTest.error ?? null,
      ...kernelChoice(selfTest),
      wrong: (selfTest.cases ?? []).flatMap((/** @type {any} */ { name, fault }) => (fault === null ? [] : [name])),
    },
    parts: parts.map(({ name, title, ending }) => ({ name, title, ending })),
    speeds: speedsOf(done),
    trims: done.get('unlike-lengths')?.result?.per_step?.trims ?? 0,
    neverLaunched: kernelFindings({ done, launches })?.unknown ?? null,
  };
}

/**
 * The kernels that no part launched.
 *
 * @param {{ done: Map<string, import('./run-part.mjs').PartEnd>, launches: Record<string, number> }} check
 * @returns {{ all: number, known: string[], unknown: string[] } | null} null: the parts that launch most of them were not run
 */
export function kernelFindings({ done, launches }) {
  const kernels = done.get('card')?.result?.kernels;
  if (kernels === undefined || done.get('self-test')?.ending !== 'done') return null;
  const never = neverLaunched(kernels, launches);
  return {
    all: new Set(kernels.map((/** @type {{ name: string }} */ { name }) => name)).size,
    known: never.filter((name) => name in NOT_LAUNCHED),
    unknown: never.filter((name) => !(name in NOT_LAUNCHED)),
  };
}

/** The sizes with an estimate or without, that of the largest model last. @param {Map<string, import('./run-part.mjs').PartEnd>} done */
function speedsOf(done) {
  const parts = [...done].filter(([name]) => /^(speed|nf4)-|^mixture|^shared-prompts$/.test(name));
  const speeds = parts.flatMap(([name, { result }]) =>
    (result?.sizes ?? []).flatMap((/** @type {any} */ size) =>
      size.error ? [] : [{ part: name, ...speedOf(name, size) }],
    ),
  );
  // The largest model is the first of those that are measured in bfloat16.
  const [first] = parts.map(([name]) => name).filter((name) => name.startsWith('speed-'));
  const ofLargest = speeds.filter(({ part }) => part === first);
  const headline = ofLargest.find(({ size }) => size === HEADLINE_SIZE) ?? ofLargest.at(-1);
  return [...speeds.filter((speed) => speed !== headline), ...(headline ? [headline] : [])];
}

/** @param {string} part @param {any} size @returns {import('./verdict.mjs').Speed} */
function speedOf(part, size) {
  const { tokens_per_second: rate, seconds_per_step: seconds, estimate } = size;
  return {
    model: part.replace(/^speed-/, ''),
    size: sizeText(size),
    tokensPerSecond: rate,
    expected: estimate ? (rate * seconds) / estimate.seconds_per_step : null,
  };
}
