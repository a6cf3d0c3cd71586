// Trains rows of twenty lengths, the longest as long as 90 % of the card's memory allows, and writes to RESULT_FILE what a step takes by
// length, and how often memory was waited for or given back.
// node unlike-lengths-main.mjs --model FOLDER --longest 32768 [--data-dir FOLDER] [--precision bfloat16] [--kernels fused|raw] [--avoid NAMES]
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadTokenizer, ModelTexts, readModelFolder } from '../../../packages/model-folder/dist/index.js';
import { planJob } from '../../../packages/planning/dist/index.js';
import { BaseModelCache, chooseKernels, engine } from '../../../packages/training/dist/index.js';
import { gigabytes, percent, table } from '../../bench/tables.mjs';
import { KERNEL_OPTIONS, kernelsOf } from './kernel-choice.mjs';
import { meanCounts, measuredMachine, measureJobs, runOptions } from './measure-jobs.mjs';
import { countsTable } from './report.mjs';
import { writePartResult } from './run-part.mjs';
import { textRows } from './text-rows.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    longest: { type: 'string', default: '32768' },
    'data-dir': { type: 'string' },
    precision: { type: 'string', default: 'bfloat16' },
    ...KERNEL_OPTIONS,
  },
});
const LENGTHS = 20;
/** The first finds every length new. */
const EPOCHS = 2;
const MOST_MEMORY = 0.9;
const SAMPLE_WORDS = 240;
/** The longest row without measurements, on which the estimate is based. */
const UNPLANNED_LENGTH = 4096;

const model = path.resolve(values.model);
const machine = await measuredMachine(values['data-dir']);
const tokensPerWord = await measureWords();
const cache = new BaseModelCache(chooseKernels(...kernelsOf(values)));
const { architecture } = await readModelFolder(model);
const mostTokens = architecture.kind === 'decoder' ? architecture.maxPositions : Number.POSITIVE_INFINITY;
const planned = await longestRow(Math.min(Number(values.longest), mostTokens));
const lengths = Array.from({ length: LENGTHS }, (_, i) =>
  Math.max(2, Math.round((planned.length * (i + 1)) / LENGTHS)),
);
const jobs = [jobOf(lengths, EPOCHS)];
/** @type {import('./measure-jobs.mjs').MeasuredStep[]} */
let steps = [];
const onStep = (/** @type {typeof steps} */ all) => {
  steps = all;
  writePartResult({ lines: linesOf(), planned, steps });
};
const result = /** @type {any} */ (await measureJobs({ model, cache, machine, jobs, onStep }));
cache.dispose();
if (result.error === undefined) writePartResult({ lines: linesOf(), planned, ...result });
else {
  process.exitCode = 1;
  writePartResult({ lines: [...linesOf(), '', `It failed: ${result.error}`], planned, steps, error: result.error });
}

/**
 * @param {number[]} lengths of rows, one in each step @param {number} epochs
 * @returns {import('./measure-jobs.mjs').MeasuredJob}
 */
function jobOf(lengths, epochs) {
  const longest = Math.max(...lengths);
  return {
    // A row as long as the longest is cut to it.
    rows: lengths.flatMap((length) => textRows({ rows: 1, length: Math.ceil(length / tokensPerWord) })),
    format: 'text',
    training: {
      ...{ batch_size: 1, epochs, max_seq_length: longest, on_overflow: 'truncate', recompute: 'never' },
      precision: /** @type {any} */ (values.precision),
    },
  };
}

/**
 * The longest row for which a job is expected to take 90 % of the memory.
 *
 * @param {number} most
 * @returns {Promise<{ length: number, peak: number | null, available: number | null, text: string }>}
 */
async function longestRow(most) {
  const unplanned = { length: Math.min(most, UNPLANNED_LENGTH), peak: null, available: null };
  if (machine === null) {
    return {
      ...unplanned,
      text: `Rows of up to ${unplanned.length} tokens, not planned: no worker has measured this machine.`,
    };
  }
  const unit = Math.max(1, Math.floor(most / 512));
  let [fits, tooLong] = [unit, most + unit];
  /** @type {any} */
  let estimate = null;
  while (tooLong - fits > unit) {
    const length = fits + unit * Math.floor((tooLong - fits) / (2 * unit));
    const expected = await estimateOf(length);
    if (expected === null || expected.peak_memory_bytes > MOST_MEMORY * expected.available_memory_bytes)
      tooLong = length;
    else [fits, estimate] = [length, expected];
  }
  if (estimate === null)
    return { ...unplanned, text: `Rows of up to ${unplanned.length} tokens; no length was found that fits.` };
  const { peak_memory_bytes: peak, available_memory_bytes: available } = estimate;
  const text = `Rows of up to ${fits} tokens: expected to take ${gigabytes(peak)}, ${percent(peak / available)} of the memory that jobs can have.`;
  return { length: fits, peak, available, text };
}

/** The estimate of a job whose row has this length; null: it does not fit. @param {number} length */
async function estimateOf(length) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-gpu-check-'));
  try {
    const options = await runOptions({ folder, model, cache, machine, job: jobOf([length], 1) });
    const texts = /** @type {any} */ (new ModelTexts());
    const plan = await planJob({ ...options, model: await readModelFolder(model), texts });
    await plan.close();
    return plan.report.estimate;
  } catch (error) {
    if (/** @type {any} */ (error)?.code === 'does_not_fit') return null;
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function linesOf() {
  if (steps.length === 0) return [planned.text];
  const memory = engine.cuda?.memory();
  // Each length is in each epoch once, in another order.
  const first = steps.slice(0, LENGTHS).toSorted(byTokens);
  const later = steps.slice(LENGTHS).toSorted(byTokens);
  const isComplete = later.length === first.length;
  const byLength = first.map(({ tokens, seconds }, i) => {
    const again = isComplete ? later[i]?.seconds : undefined;
    const last = again ?? seconds;
    return [tokens, seconds.toFixed(3), again?.toFixed(3) ?? '', (tokens / last).toFixed(0)];
  });
  const counts = [
    { name: 'at first', counts: meanCounts(first.map(countsOf)) },
    ...(later.length > 0 ? [{ name: 'later', counts: meanCounts(later.map(countsOf)) }] : []),
  ];
  return [
    planned.text,
    ...(memory
      ? [
          `It took ${gigabytes(memory.peakBytes)}; the engine keeps ${gigabytes(memory.reservedBytes - memory.peakBytes)} more for later.`,
        ]
      : []),
    ...(steps.length < LENGTHS * EPOCHS ? [`${steps.length} of ${LENGTHS * EPOCHS} steps were done.`] : []),
    '',
    table(['tokens', 's/step at first', 's/step later', 'tokens/s'], byLength).trimEnd(),
    '',
    'Counters of the engine, the mean of a step, as each length came for the first time and for the second:',
    '',
    countsTable(counts),
  ];
}

/** @param {import('./measure-jobs.mjs').MeasuredStep} one @param {import('./measure-jobs.mjs').MeasuredStep} other */
function byTokens(one, other) {
  return one.tokens - other.tokens;
}

/** @param {import('./measure-jobs.mjs').MeasuredStep} step */
function countsOf({ counts }) {
  return counts;
}

/** The tokens that this model's tokenizer makes of a word. */
async function measureWords() {
  const [{ text = '' } = {}] = textRows({ rows: 1, length: SAMPLE_WORDS });
  return (await loadTokenizer(model)).encode(text).length / SAMPLE_WORDS;
}
