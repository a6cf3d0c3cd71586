import { measured, model, quick, repeats, say } from '../harness.mjs';
import { gigabytes, percent, table } from '../tables.mjs';

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

/** Tokens per second as batches and rows grow. */
export async function growth() {
  const most = quick ? 4096 : 16_384;
  const bySize = [256, 512, 1024, 2048, 4096, 8192, 16_384].filter((tokens) => tokens <= most);
  const byLength = quick ? [64, 512, 2048] : [64, 512, 2048, 8192];
  const sizes = [
    ...bySize.map((tokens) => ({ rows: tokens / 128, length: 128, recompute: false })),
    ...byLength.map((length) => ({ rows: Math.max(1, 2048 / length), length, recompute: false })),
    { rows: 1, length: byLength.at(-1) ?? 2048, recompute: true },
  ];
  const measuredSizes = [];
  for (const size of sizes) {
    const result = await measured('growth', {
      precision: 'bfloat16',
      ...size,
      repeats: size.rows * size.length > 4096 ? 1 : repeats,
    });
    measuredSizes.push({ ...size, ...result });
  }
  say('Growth: one micro-batch forward and backward, bfloat16, LoRA on q and v, half of the tokens with a loss.');
  say(
    table(
      ['tokens', 'rows', 'row length', 'recompute', 'tokens/s', 'peak memory'],
      measuredSizes.map(({ tokens, rows, length, recompute, tokens_per_second: rate, peak_rss_bytes: peak }) => [
        tokens,
        rows,
        length,
        recompute ? 'yes' : 'no',
        rate.toFixed(0),
        gigabytes(peak),
      ]),
    ),
  );
  return measuredSizes;
}

/** The time of a step by op, with TensorFlow's own ops and with the fused ones. */
export async function profile() {
  const size = { precision: 'bfloat16', rows: 8, length: 225, repeats };
  const before = await measured('profile', { ...size, kernels: 'raw' });
  const after = await measured('profile', size);
  for (const [title, { seconds, seconds_in_ops: inOps, ops, tokens }] of [
    ['raw ops', before],
    ['fused ops', after],
  ]) {
    say(`A step of ${tokens} tokens with ${title}: ${seconds.toFixed(2)} s, ${inOps.toFixed(2)} s of it in ops`);
    say(
      table(
        ['op', 'calls', 'seconds', 'share'],
        ops
          .slice(0, 12)
          .map((/** @type {{ name: string, calls: number, seconds: number }} */ op) => [
            op.name,
            op.calls.toFixed(0),
            op.seconds.toFixed(3),
            percent(op.seconds / inOps),
          ]),
      ),
    );
  }
  return { before, after };
}

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

/** Calls of a training session of 2,048 tokens, and the steps of a job on the same rows. */
export async function session() {
  const results = [];
  for (const precision of /** @type {('bfloat16' | 'float32')[]} */ (quick ? ['bfloat16'] : ['bfloat16', 'float32'])) {
    for (const head of quick ? [true] : [true, false]) {
      const options = { precision, head, rows: 8, length: 256, pairs: quick ? 2 : 10 };
      results.push(await measured('session', options));
    }
  }
  say(`A training session: forward-backward and step of ${results[0]?.tokens} tokens, and the step of a job on them.`);
  say(
    table(
      ['precision', 'adapter on the head', 'session, tokens/s', 'job, tokens/s', 'share of the processor time'],
      results.map(
        ({ precision, head, session_tokens_per_second: own, job_tokens_per_second: job, processor_share }) => [
          precision,
          head ? 'yes' : 'no',
          own.toFixed(0),
          job.toFixed(0),
          percent(processor_share),
        ],
      ),
    ),
  );
  return results;
}
