import { measured, say } from '../measured.mjs';
import { repeats } from '../options.mjs';
import { percent, table } from '../tables.mjs';

/** The share of the rate of matrix products that a training step reaches, in each precision. */
export async function share() {
  const results = [];
  for (const precision of /** @type {const} */ (['bfloat16', 'float32'])) {
    results.push({ precision, ...(await measured('machine', { precision, rows: 8, length: 225, repeats })) });
  }
  say(
    `Share of the machine: the model's floating-point work per second in a step of ${results[0]?.tokens} tokens, and products of its own shapes with no work between them.`,
  );
  say(
    table(
      [
        'precision',
        'tokens/s',
        'model, GFLOP/s',
        "TensorFlow's products, GFLOP/s",
        'share',
        'our own, GFLOP/s',
        'share',
      ],
      results.map(
        ({
          precision,
          tokens_per_second: tokens,
          model_gflops_per_second: model,
          matmul_gflops_per_second: rate,
          share: part,
        }) => [
          precision,
          tokens.toFixed(0),
          model.toFixed(0),
          rate.tensorflow.toFixed(0),
          percent(part.tensorflow),
          rate.own.toFixed(0),
          percent(part.own),
        ],
      ),
    ),
  );
  return results;
}
