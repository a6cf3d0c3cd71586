import { measured, say } from '../measured.mjs';
import { repeats } from '../options.mjs';
import { percent, table } from '../tables.mjs';
import { estimateTable, medianRound } from './estimate.mjs';

/** A mixture of experts, on a `--model` that is one: its share of the machine and its estimates, with adapters of attention and of all experts. */
export async function experts() {
  const results = [];
  for (const precision of /** @type {const} */ (['bfloat16', 'float32'])) {
    for (const adapted of /** @type {const} */ (['attention', 'experts'])) {
      const size = { precision, rows: 8, length: 256, adapted, repeats };
      results.push({ precision, adapted, ...(await measured('machine', size)) });
    }
  }
  say(`Experts: a step of ${results[0]?.tokens} tokens, and products of its own shapes with no work between them.`);
  say(
    table(
      ['precision', 'adapted', 'tokens/s', 'model, GFLOP/s', 'our own products, GFLOP/s', 'share'],
      results.map((result) => [
        result.precision,
        result.adapted === 'experts' ? 'all experts' : 'q and v',
        result.tokens_per_second.toFixed(0),
        result.model_gflops_per_second.toFixed(0),
        result.matmul_gflops_per_second.own.toFixed(0),
        percent(result.share.own),
      ]),
    ),
  );
  const jobs = [];
  for (const { name, parameters } of [
    { name: 'q,v' },
    { name: 'q,v and all experts', parameters: ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj'] },
  ]) {
    const training = { precision: 'bfloat16', batch_size: 8, max_seq_length: 256 };
    const job = { text: { rows: 24, words: 256 }, training, parameters };
    jobs.push({ name, ...(await medianRound(job, 1)) });
  }
  say('Estimates of such jobs, and measurements.');
  say(estimateTable(jobs));
  return { steps: results, jobs };
}
