// Trains a base model on rows of one length, size by size, and writes seconds per step, peak memory and the estimate to RESULT_FILE.
// node training-main.mjs --model FOLDER --sizes 4x512,pairs:2x2048 --steps 8 [--jobs 1,2,4] [--quantization nf4] [--data-dir FOLDER]
//   [--precision bfloat16] [--kernels fused|raw] [--avoid NAMES]
import path from 'node:path';
import { parseArgs } from 'node:util';
import { BaseModelCache, chooseKernels, engine } from '../../../packages/training/dist/index.js';
import { KERNEL_OPTIONS, kernelsOf } from './kernel-choice.mjs';
import { measuredMachine, measureJobs } from './measure-jobs.mjs';
import { writePartResult } from './run-part.mjs';
import { chatRows, pairRows, parseSizes, promptRows, textRows } from './text-rows.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    sizes: { type: 'string', default: '4x512' },
    steps: { type: 'string', default: '8' },
    jobs: { type: 'string', default: '1' },
    quantization: { type: 'string', default: 'none' },
    'data-dir': { type: 'string' },
    precision: { type: 'string', default: 'bfloat16' },
    ...KERNEL_OPTIONS,
  },
});
/** Answers to a prompt, and the tokens of each. */
const GROUP = { group_size: 8, max_completion_tokens: 64 };
/** A tokenizer of characters makes several tokens of a word, and a chat template adds some. */
const tokensOfWords = (/** @type {number} */ words) => Math.min(8192, 8 * words + 256);

const model = path.resolve(values.model);
const steps = Number(values.steps);
const machine = await measuredMachine(values['data-dir']);
const chosen = chooseKernels(...kernelsOf(values));
/** null: TensorFlow's own. */
const kernels = chosen.library === 'tensorflow' ? null : chosen.library;
const cache = new BaseModelCache(chosen);
const startedAt = performance.now();
let loadedAt = 0;
/** @type {object[]} */
const sizes = [];
for (const size of parseSizes(values.sizes)) {
  for (const count of values.jobs.split(',').map(Number)) {
    const jobs = Array.from({ length: count }, () => jobOf(size));
    const onLoaded = () => {
      loadedAt ||= performance.now();
    };
    const { steps: _, ...figures } = /** @type {any} */ (await measureJobs({ model, cache, machine, jobs, onLoaded }));
    // A size that the card has no memory for is a result.
    if (figures.error !== undefined && !figures.isMemory) process.exitCode = 1;
    if (size.kind === 'rows') figures.tokens_per_second = (count * size.rows * size.length) / figures.seconds_per_step;
    // It is of a job alone.
    if (count > 1) figures.estimate = null;
    sizes.push({ ...size, jobs: count, ...figures });
    const load_seconds = Math.max(0, loadedAt - startedAt) / 1e3;
    writePartResult({ lines: [], engine: engine.kind, kernels, model: path.basename(model), load_seconds, sizes });
  }
}
cache.dispose();

/**
 * @param {import('./text-rows.mjs').Size} size
 * @returns {import('./measure-jobs.mjs').MeasuredJob}
 */
function jobOf({ kind, rows, length }) {
  const training = {
    batch_size: rows,
    precision: /** @type {any} */ (values.precision),
    base_quantization: /** @type {any} */ (values.quantization),
  };
  const all = { rows: rows * steps, length };
  const wide = { ...training, max_seq_length: tokensOfWords(length) };
  switch (kind) {
    case 'rows':
      return {
        rows: textRows(all),
        format: 'text',
        training: { ...training, max_seq_length: length, on_overflow: 'truncate' },
      };
    case 'chats':
      return { rows: chatRows(all), format: 'messages', training: wide };
    case 'pairs':
      return { rows: pairRows(all), format: 'preference', objective: { kind: 'preference' }, training: wide };
    case 'groups':
      return {
        rows: promptRows(all),
        format: 'graded_prompt',
        objective: { kind: 'group-relative', grader: { type: 'regex', pattern: 'water' }, ...GROUP },
        training: { ...wide, gradient_accumulation_steps: 1 },
      };
  }
}
