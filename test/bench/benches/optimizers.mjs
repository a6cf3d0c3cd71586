import { measured, say } from '../measured.mjs';
import { count, options } from '../options.mjs';
import { gigabytes, table } from '../tables.mjs';

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
