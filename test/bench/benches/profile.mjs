import { measured, say } from '../measured.mjs';
import { repeats } from '../options.mjs';
import { percent, table } from '../tables.mjs';

/** Where the time of a step goes, with TensorFlow's own ops and with the fused ones. */
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
