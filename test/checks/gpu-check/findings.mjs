import path from 'node:path';
import { kernelChoice } from './kernel-choice.mjs';
import { cardName } from './parts.mjs';
import { isFailure, isLeftOut, sizeText } from './report.mjs';
import { neverLaunched } from './run-part.mjs';

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
 * @returns {Findings}
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

/** @param {string} part @param {any} size @returns {Speed} */
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

/** A step this much slower than its estimate is a finding. */
const SLOW = 0.25;
const MOST_NAMED = 4;

/**
 * The facts from which a report's sentence is derived.
 *
 * @typedef {object} Findings
 * @property {string} card its name; empty: not known
 * @property {boolean} isEmulated speed is then not judged
 * @property {string} report its file, for those who report a fault
 * @property {{ done: boolean, trusted: boolean, error?: string | null, kernels: 'fused' | 'raw', avoided: string[], wrong: string[] } | null} selfTest
 *   `wrong`: cases with a fault; `error`: why it did not end, where that is known; null: it was not run
 * @property {{ name: string, title: string, ending: import('./report.mjs').PartReport['ending'] }[]} parts in their order
 * @property {Speed[]} speeds the last is that of the largest model
 * @property {number} trims in a step of rows of unlike lengths
 * @property {string[] | null} neverLaunched kernels without a launch and without a known reason; null: parts that launch some were not run
 *
 * @typedef {{ model: string, size: string, tokensPerSecond: number, expected: number | null }} Speed `expected`: tokens per second
 */

/** Parts whose failure means wrong results, or that nothing can be trained. */
const ESSENTIAL = ['card', 'self-test', 'types', 'reference-float32', 'reference-bfloat16', 'demo'];

/**
 * The sentence with which a report ends: whether the card can be used, why not or how well, and what to do.
 *
 * @param {Findings} findings
 * @returns {{ use: 'yes' | 'limited' | 'no' | 'unknown', sentence: string }}
 */
export function verdict(findings) {
  const { isEmulated, card, report } = findings;
  const name = isEmulated ? 'The emulated card' : card === '' ? 'This card' : `This card (${card})`;
  const refusal = whyNot(findings);
  if (refusal !== null) {
    const sentence = `Do not use ${isEmulated ? 'the emulated card' : card === '' ? 'this card' : `this card (${card})`} with this driver: ${refusal}; mend what is named, or report it with ${report}.`;
    return { use: 'no', sentence };
  }
  const open = whatIsOpen(findings);
  if (open !== null) {
    return { use: 'unknown', sentence: `Whether ${name.replace('Th', 'th')} can be used is not known: ${open}.` };
  }
  const limits = limitsOf(findings);
  const facts = [
    ...(limits.length === 0 ? ['no kernel is avoided'] : limits),
    speedFact(findings),
    skippedFact(findings),
  ];
  const text = facts.filter((fact) => fact !== null).join(', ');
  const action = limits.length === 0 ? '' : `; report it with ${report}`;
  return {
    use: limits.length === 0 ? 'yes' : 'limited',
    sentence: `${name} can be used${limits.length === 0 ? '' : ' with limits'}: ${text}${action}.`,
  };
}

/** @param {Findings} findings @returns {string | null} */
function whyNot({ selfTest, parts }) {
  const endings = new Map(parts.map((part) => [part.name, part]));
  if (isFailure(endings.get('card')?.ending ?? 'not run'))
    return 'the engine does not see it, or not all kernels load ("Driver and card" says why)';
  if (selfTest?.done && !selfTest.trusted) {
    return selfTest.wrong.length === 0
      ? 'the self-test cannot be run on it'
      : `its numbers are wrong in ${listed(selfTest.wrong)}`;
  }
  const wrong = parts.filter(
    ({ name, ending }) => ESSENTIAL.includes(name) && name !== 'self-test' && isFailure(ending),
  );
  return wrong.length === 0 ? null : `${wrong.map(({ title, ending }) => `"${title}" ${words(ending)}`).join(' and ')}`;
}

/** @param {Findings} findings @returns {string | null} */
function whatIsOpen({ selfTest, parts }) {
  if (selfTest !== null && !selfTest.done) {
    const why = selfTest.error ? ` (${selfTest.error.replace(/\.$/, '')})` : '';
    return `the self-test did not end${why}; repeat it with --only self-test`;
  }
  const run = new Set(parts.filter(({ ending }) => ending === 'done').map(({ name }) => name));
  const missing = ESSENTIAL.filter((name) => !run.has(name));
  return missing.length === 0 ? null : `run what is missing, too (--only ${missing.join()})`;
}

/** @param {Findings} findings */
function limitsOf({ selfTest, parts, speeds, trims, neverLaunched, isEmulated }) {
  const limits = [];
  if (selfTest?.kernels === 'raw') limits.push('plain kernels only, so jobs take more memory and time');
  else if (selfTest !== null && selfTest.avoided.length > 0) {
    limits.push(
      `${counted(selfTest.avoided.length, 'kernel')} avoided as wrong (${listed(selfTest.avoided)}), so jobs take more memory and time`,
    );
  }
  for (const { name, title, ending } of parts) {
    if (!ESSENTIAL.includes(name) && !isOfOthers(name) && isFailure(ending)) limits.push(`"${title}" ${words(ending)}`);
  }
  const slow = isEmulated ? [] : speeds.filter(({ tokensPerSecond, expected }) => isSlow(tokensPerSecond, expected));
  if (slow.length > 0) {
    limits.push(
      `slower than estimated by more than a quarter in ${listed(slow.map(({ model, size }) => `${model} ${size}`))}`,
    );
  }
  if (trims > 0) limits.push(`memory is given back ${trims.toFixed(1)} times a step near the limit`);
  if (neverLaunched !== null && neverLaunched.length > 0) {
    limits.push(`${counted(neverLaunched.length, 'kernel')} never launched (${listed(neverLaunched)})`);
  }
  return limits;
}

/** @param {number} rate @param {number | null} expected */
function isSlow(rate, expected) {
  return expected !== null && rate < (1 - SLOW) * expected;
}

/** @param {Findings} findings */
function speedFact({ speeds, isEmulated }) {
  const last = speeds.at(-1);
  if (isEmulated) return 'its times say nothing';
  if (last === undefined) return null;
  const { model, tokensPerSecond, expected } = last;
  const rate = `${model} trains at ${Math.round(tokensPerSecond).toLocaleString('en-US')} tokens/s`;
  if (expected === null) return rate;
  const share = Math.round(100 * Math.abs(tokensPerSecond / expected - 1));
  return `${rate}, ${share} % ${tokensPerSecond < expected ? 'below' : 'above'} the estimate`;
}

/** @param {Findings} findings */
function skippedFact({ parts }) {
  const skipped = parts.filter(({ ending }) => isLeftOut(ending)).map(({ name }) => name);
  return skipped.length === 0 ? null : `${counted(skipped.length, 'part')} left out (${listed(skipped)})`;
}

/** True for parts that compute with another program or on the CPU. @param {string} name */
function isOfOthers(name) {
  return name.startsWith('peer-') || name === 'demo-cpu';
}

/** @param {string} ending */
function words(ending) {
  return ending === 'out of time' ? 'did not end in its time' : ending;
}

/** @param {number} count @param {string} noun */
function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? ' is' : 's are'}`;
}

/** @param {readonly string[]} names */
function listed(names) {
  const others = names.length - MOST_NAMED;
  return `${names.slice(0, MOST_NAMED).join(', ')}${others > 0 ? ` and ${others} more` : ''}`;
}
