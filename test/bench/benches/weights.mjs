import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measured, model, quick, ROOT, say } from '../harness.mjs';
import { gigabytes, table } from '../tables.mjs';
import { trainedTogether } from './jobs.mjs';

/** Loading the model as it is, and, if nothing in it is quantized, with weights that are quantized as they are read. */
export async function loading() {
  const asStored = await measured('loading', { precision: 'bfloat16' });
  const isDense = ['float32', 'float16', 'bfloat16'].includes(asStored.dtype);
  const quantized = isDense ? [await measured('loading', { precision: 'bfloat16', quantization: 'nf4' })] : [];
  const results = [asStored, ...quantized].map((result, i) => ({ quantization: i === 0 ? 'none' : 'nf4', ...result }));
  say(`Loading ${gigabytes(asStored.bytes)} in ${asStored.dtype}: bytes of the files per second, page cache warm`);
  say(
    table(
      ['base_quantization', 'with sha256', 'sha256 remembered', 'plain read', 'peak memory'],
      results.map((result) => [
        result.quantization,
        `${gigabytes(result.first_load_bytes_per_second)}/s`,
        `${gigabytes(result.load_bytes_per_second)}/s`,
        `${gigabytes(result.plain_bytes_per_second)}/s`,
        gigabytes(result.peak_rss_bytes),
      ]),
    ),
  );
  return results;
}

/** A training step on the model in 4 bits beside the same in bfloat16: memory in a process each, time by turns in one. */
export async function quantized() {
  const measuredSizes = [];
  const most = quick ? 2 : 4;
  const sizes = /** @type {const} */ ([
    [2, 128],
    [16, 128],
    [64, 128],
    [1, 2048],
  ]).slice(0, most);
  for (const [rows, length] of sizes) {
    const options = { precision: 'bfloat16', rows, length, repeats: 1 };
    const dense = await measured('growth', options);
    const packed = await measured('growth', { ...options, quantization: 'nf4' });
    // Short steps vary most.
    const pairs = rows * length <= 256 ? 15 : rows * length <= 2048 ? 5 : 3;
    const times = await measured('besideQuantized', { rows, length, pairs });
    measuredSizes.push({ rows, length, pairs, memory: [dense.peak_rss_bytes, packed.peak_rss_bytes], ...times });
  }
  say('Weights in 4 bits: a micro-batch as in growth, with base_quantization nf4 and in bfloat16, by turns. Medians.');
  const of = ['tokens', 'row length', 'bfloat16, tokens/s', 'peak memory', 'NF4, tokens/s', 'peak memory'];
  say(
    table(
      [...of, 'time of a step', 'of the pairs', 'time of processors'],
      measuredSizes.map(({ rows, length, memory: [dense, packed], ratio, ratios, ...times }) => [
        rows * length,
        length,
        times.dense_tokens_per_second.toFixed(0),
        gigabytes(dense),
        times.packed_tokens_per_second.toFixed(0),
        gigabytes(packed),
        `${ratio.toFixed(2)} ×`,
        `${times.pairs}: ${ratios[0].toFixed(2)} to ${ratios.at(-1).toFixed(2)}`,
        `${times.processor_ratio.toFixed(2)} ×`,
      ]),
    ),
  );
  return { sizes: measuredSizes, jobs: await jobsOnQuantized() };
}

/** The memory of jobs that train together on one base in 4 bits, and on the same in bfloat16: a process each. */
async function jobsOnQuantized() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-quantized-'));
  const results = [];
  try {
    for (const count of quick ? [1, 8] : [1, 4, 8, 16]) {
      /** @type {Record<string, import('../train-jobs.mjs').Measured | undefined>} */
      const measuredOf = {};
      for (const quantization of /** @type {const} */ (['none', 'nf4'])) {
        const work = { jobs: count, tokens: 128, targets: 'all-linear', ranks: [8], steps: 4, quantization };
        const works = [{ ...work, name: `${count} jobs` }];
        const [result] = await trainedTogether({ roots: { now: ROOT }, model, folder, turns: 1, works });
        measuredOf[quantization] = result?.measured.now?.[0];
      }
      results.push({ count, dense: measuredOf.none, packed: measuredOf.nf4 });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const memory = (/** @type {{ peakBytes: number } | undefined} */ one) => gigabytes(one?.peakBytes ?? Number.NaN);
  say('Jobs that train together on one base model, 128 tokens each, all linear layers, r = 8: peak memory.');
  say(
    table(
      ['jobs', 'bfloat16', 'NF4'],
      results.map(({ count, dense, packed }) => [count, memory(dense), memory(packed)]),
    ),
  );
  return results;
}
