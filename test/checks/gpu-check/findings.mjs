import path from 'node:path';
import { kernelChoice } from './kernel-choice.mjs';
import { neverLaunched } from './launches.mjs';
import { sizeText } from './part-lines.mjs';
import { cardName } from './parts.mjs';
import { isFailure, isLeftOut } from './report.mjs';
import { verdict } from './verdict.mjs';

const TYPES = ['BFloat16', 'Bool', 'Float16', 'Float32', 'Int32', 'Int64', 'Uint8'];
const DELTA_KERNELS = ['GatedDelta', 'GatedDeltaBackward', 'GatedDeltaChunk', 'GatedDeltaErrors'];

/** Kernels that no part launches, and why. @type {{ reason: string, names: string[] }[]} */
const NOT_LAUNCHED = [
  { reason: 'no tensor is cast to the type that it has', names: TYPES.map((type) => `Cast${type}To${type}`) },
];
/** The same on an emulated card, whose self-test is small. @type {typeof NOT_LAUNCHED} */
const NOT_LAUNCHED_SMALL = [
  {
    reason: 'the small self-test has no such sizes',
    names: [
      ...DELTA_KERNELS.flatMap((name) => [`${name}BFloat16_128`, `${name}Float32_128`]),
      ...['ScaledFewRows8', 'ScaledFewRows16'],
    ],
  },
];

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
    trims: trimsIn(done.get('unlike-lengths')?.result?.per_step ?? {}),
    neverLaunched: kernelFindings({ isEmulated, done, launches })?.unknown ?? null,
  };
}

/**
 * The kernels that no part launched.
 *
 * @param {{ isEmulated: boolean, done: Map<string, import('./run-part.mjs').PartEnd>, launches: Record<string, number> }} check
 * @returns {{ all: number, launched: number, known: typeof NOT_LAUNCHED, unknown: string[] } | null} `known`: those with a reason; null:
 *   the parts that launch most of them were not run
 */
export function kernelFindings({ isEmulated, done, launches }) {
  const kernels = done.get('card')?.result?.kernels;
  if (kernels === undefined || !['self-test', 'types'].every((name) => done.get(name)?.ending === 'done')) return null;
  const never = neverLaunched(kernels, launches);
  const reasons = isEmulated ? [...NOT_LAUNCHED, ...NOT_LAUNCHED_SMALL] : NOT_LAUNCHED;
  const known = reasons.map(({ reason, names }) => ({ reason, names: never.filter((name) => names.includes(name)) }));
  const all = new Set(kernels.map((/** @type {{ name: string }} */ { name }) => name)).size;
  return {
    ...{ all, launched: all - never.length },
    known: known.filter(({ names }) => names.length > 0),
    unknown: never.filter((name) => !reasons.some(({ names }) => names.includes(name))),
  };
}

/** @param {Record<string, number>} counts of a step, in which trims may be counted by their kind @returns {number} */
function trimsIn(counts) {
  return Object.entries(counts).reduce((sum, [name, count]) => (/trims$/i.test(name) ? sum + count : sum), 0);
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

/**
 * The summary of a report, whose last line says whether the card can be used.
 *
 * @param {{ check: import('./parts.mjs').Check, report: import('./report.mjs').Report, areLeft: boolean, selfTest: any,
 *   done: Map<string, import('./run-part.mjs').PartEnd>, launches: Record<string, number> }} options `areLeft`: parts are still to be run
 * @returns {string[]} Markdown
 */
export function summaryOf({ check, report, done, launches, selfTest, areLeft }) {
  const { isEmulated, out } = check;
  const findings = findingsOf({
    isEmulated,
    report: path.join(out, 'report.md'),
    parts: report.parts,
    done,
    selfTest,
    launches,
  });
  const bad = report.parts.filter(({ ending }) => isFailure(ending));
  const skipped = report.parts.filter(({ ending }) => isLeftOut(ending));
  const named = (/** @type {typeof bad} */ parts) => parts.map(({ name, ending }) => `${name} (${ending})`).join(', ');
  return [
    `- parts: ${report.parts.length - bad.length - skipped.length} done${areLeft ? ' so far' : ''}${bad.length > 0 ? `; ${named(bad)}` : ''}`,
    ...(skipped.length > 0 ? [`- left out: ${skipped.map(({ name, how }) => `${name} (${how})`).join(', ')}`] : []),
    `- the parts computed with ${kernelChoice(selfTest).why}`,
    ...linesOfKernels({ isEmulated, done, launches }),
    '',
    areLeft ? 'Parts are still running.' : `**${verdict(findings).sentence}**`,
  ];
}

/** @param {Parameters<typeof kernelFindings>[0]} check @returns {string[]} */
function linesOfKernels(check) {
  const found = kernelFindings(check);
  if (found === null)
    return ['- kernels that were never launched: not known without the parts card, self-test and types'];
  const { all, launched, known, unknown } = found;
  const why = known.map(({ reason, names }) => `${names.length} as ${reason}`);
  return [
    `- kernels: ${launched} of ${all} were launched${why.length > 0 ? `; not ${why.join(', ')}` : ''}`,
    ...(unknown.length > 0 ? [`- kernels that were never launched: ${unknown.join(', ')}`] : []),
  ];
}
