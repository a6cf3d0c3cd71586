import { measured, say } from '../measured.mjs';
import { quick, repeats } from '../options.mjs';
import { gigabytes, table } from '../tables.mjs';

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
