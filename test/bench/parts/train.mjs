import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openExampleStore } from '../../../packages/planning/dist/index.js';
import { BaseModelCache, train as trainAdapter } from '../../../packages/training/dist/index.js';
import { jobSpecOf } from '../../../services/api/dist/jobs/job-inputs.js';
import { datasetOf, readBenchRows } from '../rows.mjs';

/**
 * One pass of the trainer over some rows: a job without queue and HTTP.
 *
 * @param {{ model: string, rows?: string, count?: number, text?: { rows: number, words: number }, targets?: string[] | string, parameters?: string[],
 *   training?: object, objective?: import('../../../packages/contracts/dist/index.js').ObjectiveRequest, validation?: object, samples?: object, rank?: number, machine?: import('../../../packages/contracts/dist/index.js').MachineProfile }} options
 * @param {import('../../../packages/tensor/dist/index.js').KernelSet} kernels
 */
export async function train(
  {
    model,
    rows,
    count = 64,
    text,
    targets = ['q_proj', 'v_proj'],
    parameters,
    training = {},
    objective,
    validation = {},
    samples,
    rank = 8,
    machine,
  },
  kernels,
) {
  const { text: lines, dataset } =
    rows === undefined
      ? datasetOf(wordRows(text ?? { rows: 8, words: 100 }), 'text')
      : await readBenchRows(rows, count);
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-bench-'));
  try {
    const rowsFile = path.join(folder, 'rows.jsonl');
    await writeFile(rowsFile, lines);
    const spec = jobSpecOf({
      base_model: path.basename(model),
      dataset: dataset.id,
      lora: {
        ...{ r: rank, alpha: 2 * rank, target_modules: targets },
        ...(parameters === undefined ? {} : { target_parameters: parameters }),
      },
      validation,
      ...(objective === undefined ? {} : { objective }),
      ...(samples === undefined ? {} : { samples: /** @type {any} */ (samples) }),
      training: { epochs: 1, on_overflow: 'truncate', checkpoint_every_steps: null, ...training },
    });
    /** @type {number[]} */
    const stepSeconds = [];
    let last = 0;
    /** @type {number[]} tokens of an answer that is sampled in a step */
    const answerTokens = [];
    const cache = new BaseModelCache(/** @type {any} */ (kernels));
    const { result, report, versions } = await trainAdapter({
      cache,
      spec,
      modelFolder: model,
      dataset,
      rowsFile,
      examples: /** @type {any} */ (await openExampleStore({ dataDir: folder, maxBytes: 0 })),
      checkpointFolder: path.join(folder, 'checkpoints'),
      outputFolder: folder,
      initialAdapterFolder: null,
      machine: machine ?? null,
      signal: new AbortController().signal,
      onEvent: (event) => {
        const now = performance.now();
        // From whatever came before it: an evaluation between two steps is no part of either.
        if (event.type === 'step-finished' && event.data.step > 1) {
          stepSeconds.push((now - last) / 1e3);
          answerTokens.push(event.data.group?.['completions/mean_length'] ?? 0);
        }
        // Answers are graded within a step.
        if (event.type !== 'answers-graded') last = now;
      },
    });
    return {
      precision: report.precision.chosen,
      kernels: versions.kernels,
      tokens: result.tokens,
      steps: result.steps,
      seconds: result.seconds,
      // Without the first step, in which the engine starts threads and chooses kernels.
      seconds_per_step: stepSeconds.length > 0 ? mean(stepSeconds) : result.seconds,
      tokens_per_second: result.tokens / result.seconds,
      peak_rss_bytes: result.peak_memory_bytes,
      trained_tokens: result.trained_tokens,
      answer_tokens: answerTokens.length > 0 ? mean(answerTokens) : 0,
      losses: result.losses,
      sample_tokens: result.samples.map((round) => round.samples.map((sample) => sample.tokens)),
      estimate: report.estimate,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {{ rows: number, words: number }} size */
function wordRows({ rows, words }) {
  return Array.from({ length: rows }, (_, row) => ({
    text: Array.from({ length: words }, (_word, i) => WORDS[(row * 7 + i * 3) % WORDS.length]).join(' '),
  }));
}

/** Each word, with the space before it, is one token of the demo model's vocabulary. */
const WORDS = ['the', 'time', 'of', 'water', 'and', 'light', 'in', 'house', 'is', 'green', 'to', 'people'];

/** @param {number[]} values */
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
