import { gigabytes, percent, table } from '../../bench/tables.mjs';
import { countsTable } from './counts-table.mjs';
import { kernelChoice } from './kernel-choice.mjs';
import { publishedLines } from './published-rates.mjs';

/** @param {import('./run-part.mjs').PartEnd} end */
export function linesOfSelfTest({ result }) {
  if (result === null) return [];
  const faults = result.cases.filter((/** @type {any} */ { fault }) => fault !== null);
  const trust = !result.done ? 'it did not end' : `the engine is ${result.trusted ? '' : 'NOT '}trusted`;
  return [
    `${result.card?.name}, driver ${result.card?.driver}: ${result.cases.length} cases, ${faults.length} with a fault; ${trust}.`,
    `The other parts compute with ${kernelChoice(result).why}.`,
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

/** What a size trains in a step. @param {{ kind: string, rows: number, length: number, jobs?: number }} size */
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
    `Loaded in ${result.load_seconds.toFixed(1)} s; engine ${result.engine}, kernels ${result.kernels}.`,
    '',
    speedTable(sizes).trimEnd(),
    ...sizes.filter(({ error }) => error).map((size) => `- ${sizeText(size)}: ${size.error}`),
    ...(published.length > 0 ? ['', ...published] : []),
    ...(counted.length === 0
      ? []
      : [
          '',
          'The counters of the engine; waits are expected to be twice the downloads, and trims and failed allocations none:',
          '',
          countsTable(counted.map((size) => ({ name: sizeText(size), counts: size.per_step }))),
        ]),
  ];
}

/** @param {any[]} sizes */
function speedTable(sizes) {
  const head = ['rows × tokens', 's/step', 'tokens/s', 'peak memory', 'kept beyond it', 'recompute'];
  const expected = ['memory expected', 'error', 's/step expected', 'error'];
  const hasJobs = sizes.some(({ jobs }) => jobs > 1);
  const rows = sizes.map((size) => {
    const own = sizeText(size);
    const columns = head.length + expected.length + (hasJobs ? 1 : 0) - 1;
    if (size.error) return [own, size.isMemory ? 'no memory' : 'failed', ...new Array(columns - 1).fill('')];
    const { peak_memory_bytes: peak, reserved_memory_bytes: reserved, seconds_per_step: seconds } = size;
    return [
      own,
      ...[seconds.toFixed(3), size.tokens_per_second.toFixed(0)],
      ...(peak ? [gigabytes(peak), gigabytes(reserved - peak)] : ['', '']),
      size.recompute ? 'yes' : 'no',
      ...(hasJobs ? [size.jobs_per_pass.toFixed(1)] : []),
      ...expectedCells(size),
    ];
  });
  return table([...head, ...(hasJobs ? ['jobs a pass'] : []), ...expected], rows);
}

/** @param {any} size */
function expectedCells({ estimate, peak_memory_bytes: peak, seconds_per_step: seconds }) {
  if (!estimate) return ['', '', '', ''];
  return [
    gigabytes(estimate.peak_memory_bytes),
    peak ? percent(estimate.peak_memory_bytes / peak - 1) : '',
    estimate.seconds_per_step.toFixed(3),
    percent(estimate.seconds_per_step / seconds - 1),
  ];
}

/**
 * What the adapters' padding costs and saves: the same size with it on both sides of a product, and on one.
 *
 * @param {import('./run-part.mjs').PartEnd} end with GPU_LORA_MARGIN=depth
 * @param {import('./run-part.mjs').PartEnd | undefined} both
 */
export function linesOfMargin({ result }, both) {
  if (result === null) return [];
  const rows = result.sizes.map((/** @type {any} */ size) => {
    const other = sameSize(both, size);
    const rate = (/** @type {any} */ one) => (one?.tokens_per_second ? one.tokens_per_second.toFixed(0) : '');
    const ratio =
      other?.tokens_per_second && size.tokens_per_second ? size.tokens_per_second / other.tokens_per_second : null;
    return [sizeText(size), rate(other), rate(size), ratio === null ? '' : `${ratio.toFixed(3)} ×`];
  });
  return [table(['rows × tokens', 'both, tokens/s', 'depth, tokens/s', 'ratio'], rows).trimEnd()];
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
