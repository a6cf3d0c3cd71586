import { measured, say } from '../measured.mjs';
import { model, repeats } from '../options.mjs';
import { percent, table } from '../tables.mjs';

/** Ops of linear attention beside its products and norms. */
const LINEAR_ATTENTION_OPS = /CausalConvolution|GatedDelta/;

/** Linear attention, on a `--model` that has it: its share of the machine, and what one long row costs beside many. */
export async function delta() {
  const share = await measured('machine', { precision: 'bfloat16', rows: 4, length: 512, repeats });
  const sizes = [];
  for (const [rows, length] of /** @type {const} */ ([
    [16, 512],
    [1, 8192],
  ])) {
    const { ops, seconds } = await measured('profile', { precision: 'bfloat16', rows, length, repeats: 1 });
    const ofLayers = ops.filter((/** @type {{ name: string }} */ { name }) => LINEAR_ATTENTION_OPS.test(name));
    if (ofLayers.length === 0) throw new Error(`${model} has no linear attention: pass --model`);
    const inLayers = ofLayers.reduce((/** @type {number} */ sum, /** @type {any} */ op) => sum + op.seconds, 0);
    sizes.push({ rows, length, seconds, seconds_in_layers: inLayers });
  }
  const { tokens, tokens_per_second: rate, model_gflops_per_second: work, share: part } = share;
  say(
    `Linear attention: a step of ${tokens} tokens in bfloat16: ${rate.toFixed(0)} tokens/s, ${work.toFixed(0)} GFLOP/s, ${percent(part.own)} of the rate of our own products, ${percent(part.tensorflow)} of TensorFlow's.`,
  );
  say(
    table(
      ['rows', 'tokens of a row', 'a step, s', 'convolution and delta rule, s'],
      sizes.map(({ rows, length, seconds, seconds_in_layers: inLayers }) => [
        rows,
        length,
        seconds.toFixed(2),
        inLayers.toFixed(3),
      ]),
    ),
  );
  return { share, sizes };
}
