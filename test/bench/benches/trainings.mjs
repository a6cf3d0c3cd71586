import { measured, peer, say } from '../measured.mjs';
import { count, model, options } from '../options.mjs';
import { gigabytes, table } from '../tables.mjs';

/** Our trainer and TRL's over the same rows, one after the other. */
export async function speed() {
  const all = 'all-linear';
  const cases = [
    { name: 'float32', ours: 'bfloat16', targets: undefined, peerOptions: ['--precision', 'float32'] },
    { name: 'bfloat16', ours: 'bfloat16', targets: undefined, peerOptions: ['--precision', 'bfloat16'] },
    {
      name: 'bfloat16, packed',
      ours: 'bfloat16',
      targets: undefined,
      peerOptions: ['--precision', 'bfloat16', '--packing'],
    },
    { name: 'bfloat16, all-linear', ours: 'bfloat16', targets: all, peerOptions: ['--targets', all] },
    { name: 'float32 against float32', ours: 'float32', targets: undefined, peerOptions: ['--precision', 'float32'] },
  ];
  const rows = [];
  /** @type {Map<string, any>} */
  const peers = new Map();
  for (const { name, ours: precision, targets, peerOptions } of cases) {
    const training = { precision, batch_size: 8, max_seq_length: 512 };
    const ours = await measured('train', { rows: options.rows, count, targets, training });
    const key = peerOptions.join(' ');
    if (options['peer-python'] !== undefined && !peers.has(key)) peers.set(key, await trl(peerOptions));
    const theirs = peers.get(key);
    rows.push({ name, ours, theirs, ratio: theirs && ours.tokens_per_second / theirs.tokens_per_second });
  }
  say('Training speed: one pass over the rows, batch 8, r = 8. The first column names how TRL + PEFT runs.');
  say(
    table(
      ['TRL + PEFT', 'tokens/s', 'memory', 'ours', 'tokens/s', 'memory', 'ratio'],
      rows.map(({ name, ours, theirs, ratio }) => [
        name,
        theirs ? theirs.tokens_per_second.toFixed(0) : theirs === null ? 'refused' : 'not run',
        theirs ? `${theirs.peak_rss_gb.toFixed(1)} GB` : '',
        `${ours.precision}, ${ours.kernels}`,
        ours.tokens_per_second.toFixed(0),
        gigabytes(ours.peak_rss_bytes),
        ratio ? `${ratio.toFixed(1)} ×` : '',
      ]),
    ),
  );
  say(`${rows[0]?.ours.tokens} tokens, ${rows[0]?.ours.trained_tokens} of them with a loss.\n`);
  return rows;
}

/**
 * @param {string[]} extra
 * @returns {Promise<any>} null where TRL refuses the setting, as packed rows of a model with linear attention
 */
async function trl(extra) {
  try {
    return await peer('trl_baseline.py', [model, options.rows, '--rows', String(count), ...extra]);
  } catch (error) {
    const last = String(/** @type {any} */ (error).stderr ?? error)
      .trimEnd()
      .split('\n')
      .at(-1);
    say(`TRL does not train with ${extra.join(' ')}: ${last}\n`);
    return null;
  }
}

/** A training on the rows with each optimizer. */
export async function optimizers() {
  const trainings = [];
  for (const optimizer of ['adamw', 'adamw_8bit']) {
    const training = {
      optimizer,
      precision: 'bfloat16',
      batch_size: 4,
      epochs: 3,
      learning_rate: 1e-3,
      max_seq_length: 256,
    };
    const { losses, ...trained } = await measured('train', {
      rows: options.rows,
      count,
      training,
      rank: 64,
      targets: 'all-linear',
    });
    const lastEpoch = losses.slice(-Math.ceil(losses.length / 3));
    const loss =
      lastEpoch.reduce((/** @type {number} */ sum, /** @type {number} */ one) => sum + one, 0) / lastEpoch.length;
    trainings.push({ optimizer, ...trained, firstLoss: losses[0], loss });
  }
  say('Optimizers: the same training on all linear layers with r = 64.');
  say(
    table(
      ['optimizer', 'steps', 'first loss', 'loss of the last epoch', 'tokens/s', 'peak memory'],
      trainings.map(({ optimizer, steps, firstLoss, loss, tokens_per_second: rate, peak_rss_bytes: peak }) => [
        optimizer,
        String(steps),
        firstLoss.toFixed(4),
        loss.toFixed(4),
        rate.toFixed(0),
        gigabytes(peak),
      ]),
    ),
  );
  return trainings;
}
