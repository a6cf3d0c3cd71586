import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { publishedLines } from '../../bench/cards.mjs';
import { gigabytes, percent, table } from '../../bench/tables.mjs';
import { kernelChoice } from './kernel-choice.mjs';

/**
 * One line of `results.json` under `parts`.
 *
 * @typedef {object} PartReport
 * @property {string} name
 * @property {string} title
 * @property {import('./run-part.mjs').Ending | 'cut short' | 'not run'} ending `cut short`: the time of all parts was over before its own
 * @property {string} how why it was not run, or how its process ended
 * @property {number} seconds
 * @property {string[]} lines Markdown
 * @property {unknown} result
 */

const FENCE = '```';
/** The lines that are shown of the log of a failed part. */
const SHOWN_LOG_LINES = 25;

/** @param {PartReport['ending']} ending @returns {boolean} whether the part itself failed */
export function isFailure(ending) {
  return ending !== 'done' && !isLeftOut(ending);
}

/** @param {PartReport['ending']} ending @returns {boolean} whether there was no time for the whole part */
export function isLeftOut(ending) {
  return ending === 'not run' || ending === 'cut short';
}

/** Keeps `results.json` and `report.md` in a folder up to date: what was measured is there even if the machine goes away. */
export class Report {
  #out;
  #header;
  /** @type {string[]} */
  #summary = [];
  /** @type {PartReport[]} */
  #parts = [];

  /** @param {string} out folder @param {Record<string, unknown>} header */
  constructor(out, header) {
    this.#out = out;
    this.#header = header;
    this.#write();
  }

  /** True if every part that ran was done. */
  get isGood() {
    return !this.#parts.some(({ ending }) => isFailure(ending));
  }

  /** @returns {readonly PartReport[]} the parts so far */
  get parts() {
    return this.#parts;
  }

  /** Adds facts to the header. @param {Record<string, unknown>} facts */
  describe(facts) {
    Object.assign(this.#header, facts);
    this.#write();
  }

  /** Sets what follows from the parts so far. @param {string[]} lines Markdown, shown before the parts */
  summarize(lines) {
    this.#summary = lines;
    this.#write();
  }

  /** @param {PartReport & { log?: string }} part */
  add({ log = '', ...part }) {
    const isBad = isFailure(part.ending);
    const tail = log.trimEnd().split('\n').slice(-SHOWN_LOG_LINES).join('\n');
    const shown = isBad && tail !== '' ? ['', `The end of its log:`, '', FENCE, tail, FENCE] : [];
    this.#parts.push({ ...part, lines: [...part.lines, ...shown] });
    this.#write();
  }

  #write() {
    this.#replace(
      'results.json',
      `${JSON.stringify({ ...this.#header, summary: this.#summary, parts: this.#parts }, null, 2)}\n`,
    );
    const header = Object.entries(this.#header).map(([name, value]) => `- ${name}: ${value}`);
    const parts = this.#parts.flatMap(({ title, ending, how, seconds, lines }) => [
      '',
      `## ${title}`,
      '',
      ending === 'not run'
        ? `Not run: ${how}.`
        : `${ending === 'done' ? 'Done' : `**${ending}** (${how})`} in ${seconds.toFixed(1)} s.`,
      ...(lines.length > 0 ? ['', ...lines] : []),
    ]);
    const summary = this.#summary.length === 0 ? [] : ['', '## Summary', '', ...this.#summary];
    this.#replace('report.md', `${['# Check of a GPU', '', ...header, ...summary, ...parts].join('\n')}\n`);
  }

  /** @param {string} name @param {string} text */
  #replace(name, text) {
    const file = path.join(this.#out, name);
    writeFileSync(`${file}.partial`, text);
    renameSync(`${file}.partial`, file);
  }
}

/** @param {import('./run-part.mjs').PartEnd} end */
export function linesOfSelfTest({ result }) {
  if (result === null) return [];
  const faults = result.cases.filter((/** @type {any} */ { fault }) => fault !== null);
  const trust = !result.done ? 'it did not end' : `the engine is ${result.trusted ? '' : 'NOT '}trusted`;
  return [
    `${result.card?.name}, driver ${result.card?.driver}: ${result.cases.length} cases, ${faults.length} with a fault; ${trust}.`,
    `The other parts compute with ${kernelChoice(result).why}.`,
    ...(result.error ? [`- ${result.error}`] : []),
    ...(result.faults ?? []).map((/** @type {any} */ fault) => `- ${fault?.message ?? fault}`),
    ...faults.map((/** @type {any} */ { name, fault }) => `- ${name}: ${fault}`),
  ];
}

/** The parts that exceed their tolerance, and how many do not. @param {import('./run-part.mjs').PartEnd} end */
export function linesOfReference({ log }) {
  const bad = log.split('\n').filter((line) => /^ {2}(BEYOND|FAILED)/.test(line));
  const good = log.split('\n').filter((line) => /^ {2}ok/.test(line)).length;
  return [
    `${good} comparisons are within their tolerances, ${bad.length} are not.`,
    ...bad.map((line) => `- ${line.trim()}`),
  ];
}

/** A size as text, such as `2 × 2048 pairs`. @param {{ kind: string, rows: number, length: number, jobs?: number }} size */
export function sizeText({ kind, rows, length, jobs = 1 }) {
  const what = { rows: '', chats: ' chats', pairs: ' pairs', groups: ' groups' }[kind] ?? '';
  return `${jobs > 1 ? `${jobs} jobs, ` : ''}${rows} × ${length}${what}`;
}

/**
 * @param {import('./run-part.mjs').PartEnd} end
 * @param {{ card?: string, model?: string }} [published] names, where published rates are looked for
 */
export function linesOfTraining({ result }, { card = '', model = '' } = {}) {
  if (result === null) return [];
  /** @type {any[]} */
  const sizes = result.sizes;
  const counted = sizes.filter(({ per_step: counts }) => counts);
  const published = publishedLines(card, model, sizes);
  return [
    `Loaded in ${result.load_seconds.toFixed(1)} s; engine ${result.engine}, kernels ${result.kernels ?? 'plain'}.`,
    '',
    speedTable(sizes).trimEnd(),
    ...sizes.filter(({ error }) => error).map((size) => `- ${sizeText(size)}: ${size.error}`),
    ...(published.length > 0 ? ['', ...published] : []),
    ...(counted.length === 0
      ? []
      : [
          '',
          'Counters of the engine, the mean of a step. Waits should be twice the downloads; trims and failed allocations should be none.',
          '',
          countsTable(counted.map((size) => ({ name: sizeText(size), counts: size.per_step }))),
        ]),
  ];
}

/** Columns that have nothing are left out. @param {any[]} sizes */
function speedTable(sizes) {
  /** @type {[name: string, text: (size: any) => string][]} */
  const columns = [
    ['s/step', (size) => size.seconds_per_step.toFixed(3)],
    ['tokens/s', (size) => size.tokens_per_second.toFixed(0)],
    ['peak memory', ({ peak_memory_bytes: peak }) => (peak ? gigabytes(peak) : '')],
    [
      'kept for later',
      ({ peak_memory_bytes: peak, reserved_memory_bytes: kept }) => (peak ? gigabytes(kept - peak) : ''),
    ],
    ['recompute', ({ recompute }) => (recompute ? 'yes' : 'no')],
    ['jobs a pass', (size) => (sizes.some(({ jobs }) => jobs > 1) ? size.jobs_per_pass.toFixed(1) : '')],
    ['memory expected', ({ estimate }) => (estimate ? gigabytes(estimate.peak_memory_bytes) : '')],
    [
      'error',
      ({ estimate, peak_memory_bytes: peak }) =>
        estimate && peak ? percent(estimate.peak_memory_bytes / peak - 1) : '',
    ],
    ['s/step expected', ({ estimate }) => (estimate ? estimate.seconds_per_step.toFixed(3) : '')],
    [
      'error',
      ({ estimate, seconds_per_step: seconds }) => (estimate ? percent(estimate.seconds_per_step / seconds - 1) : ''),
    ],
  ];
  const measured = sizes.filter(({ error }) => !error);
  const shown = columns.filter(([, text]) => measured.some((size) => text(size) !== ''));
  const rows = sizes.map((size) => [
    sizeText(size),
    ...(size.error
      ? shown.map((_, column) => (column > 0 ? '' : size.isMemory ? 'no memory' : 'failed'))
      : shown.map(([, text]) => text(size))),
  ]);
  return table(['rows × tokens', ...shown.map(([name]) => name)], rows);
}

/**
 * The cost of the padding for adapters: rates where it makes products wider or deeper, and where it only makes them deeper.
 *
 * @param {import('./run-part.mjs').PartEnd} end with GPU_LORA_PADDING=depth
 * @param {import('./run-part.mjs').PartEnd | undefined} both with GPU_LORA_PADDING=both
 */
export function linesOfPadding({ result }, both) {
  if (result === null) return [];
  const rows = result.sizes.map((/** @type {any} */ size) => {
    const [one, other] = [sameSize(both, size)?.tokens_per_second, size.tokens_per_second];
    const ratio = one && other ? `${(other / one).toFixed(3)} ×` : '';
    return [sizeText(size), one?.toFixed(0) ?? '', other?.toFixed(0) ?? '', ratio];
  });
  return ['', table(['rows × tokens', 'both, tokens/s', 'depth, tokens/s', 'ratio'], rows).trimEnd()];
}

/** @param {import('./run-part.mjs').PartEnd | undefined} end @param {any} size */
function sameSize(end, { rows, length }) {
  return end?.result?.sizes.find((/** @type {any} */ one) => one.rows === rows && one.length === length);
}

/** @param {import('./run-part.mjs').PartEnd} end @param {import('./run-part.mjs').PartEnd | undefined} ours */
export function linesOfPeer({ result }, ours) {
  if (result === null) return [];
  const text = table(
    ['rows × tokens', 's/step', 'tokens/s', 'peak memory', 'recompute', 'ours, tokens/s', 'ratio'],
    result.sizes.map((/** @type {any} */ size) => {
      const head = `${size.rows} × ${size.length}`;
      if (size.error) return [head, size.error, '', '', '', '', ''];
      const same = sameSize(ours, size);
      const rate = same?.tokens_per_second;
      return [
        head,
        size.seconds_per_step.toFixed(3),
        size.tokens_per_second.toFixed(0),
        size.peak_memory_bytes ? gigabytes(size.peak_memory_bytes) : '',
        size.recompute ? 'yes' : 'no',
        rate ? rate.toFixed(0) : '',
        rate ? `${(rate / size.tokens_per_second).toFixed(2)} ×` : '',
      ];
    }),
  );
  const versions = Object.entries(result.versions).map(([name, version]) => `${name} ${version}`);
  return [`${result.device}; ${versions.join(', ')}.`, '', text.trimEnd()];
}

/**
 * @param {import('./run-part.mjs').PartEnd | undefined} onCard
 * @param {import('./run-part.mjs').PartEnd} onCpu
 */
export function linesOfLosses(onCard, onCpu) {
  const other = new Map((onCard?.result?.steps ?? []).map((/** @type {any} */ { step, loss }) => [step, loss]));
  const rows = (onCpu.result?.steps ?? []).flatMap((/** @type {any} */ { step, loss }) => {
    const card = other.get(step);
    return card === undefined ? [] : [[step, card.toFixed(5), loss.toFixed(5), Math.abs(card - loss).toExponential(1)]];
  });
  if (rows.length === 0) return [];
  return ['', 'Losses step by step:', '', table(['step', 'CUDA engine', 'CPU', 'difference'], rows).trimEnd()];
}

/**
 * The counters of the engine, a row for each: whichever it has.
 *
 * @param {{ name: string, counts: Record<string, number> }[]} columns
 * @returns {string} Markdown
 */
export function countsTable(columns) {
  const names = [...new Set(columns.flatMap(({ counts }) => Object.keys(counts)))];
  const rows = names.map((name) => [words(name), ...columns.map(({ counts }) => number(counts[name]))]);
  return table(['a step', ...columns.map(({ name }) => name)], rows).trimEnd();
}

/** @param {string} name such as failedAllocations */
function words(name) {
  return name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** @param {number | undefined} value */
function number(value) {
  return value === undefined ? '' : value.toFixed(Number.isInteger(value) || value >= 1000 ? 0 : 1);
}
