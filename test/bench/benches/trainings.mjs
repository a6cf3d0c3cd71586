import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { count, measured, model, options, peer, quick, ROOT, say } from '../harness.mjs';
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

/** A step on pairs of answers beside one on the same sequences as rows, and TRL's DPO beside it. */
export async function preferences() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-preferences-'));
  try {
    const pairs = path.join(ROOT, 'examples/preferences/pairs.jsonl');
    const lines = (await readFile(pairs, 'utf8')).trimEnd().split('\n').slice(0, count);
    const sequences = lines.flatMap((line) => {
      const { prompt, chosen, rejected } = JSON.parse(line);
      return [chosen, rejected].map((answer) => `${JSON.stringify({ messages: [...prompt, ...answer] })}\n`);
    });
    const rows = path.join(scratch, 'rows.jsonl');
    await writeFile(rows, sequences.join(''));
    const results = [];
    /** @type {('bfloat16' | 'float32')[]} */
    const precisions = quick ? ['bfloat16'] : ['bfloat16', 'float32'];
    for (const precision of precisions) {
      const training = { precision, batch_size: 4, epochs: quick ? 1 : 3, max_seq_length: 512 };
      const objective = { kind: /** @type {const} */ ('preference') };
      const ofPairs = await measured('train', { rows: pairs, count: lines.length, objective, training });
      const supervised = { ...training, batch_size: 8 };
      const ofRows = await measured('train', { rows, count: sequences.length, training: supervised });
      const parameters = ['--method', 'dpo', '--rows', String(lines.length), '--precision', precision];
      const theirs =
        options['peer-python'] === undefined
          ? null
          : await peer('trl_baseline.py', [model, pairs, ...parameters, '--batch-size', '4']);
      results.push({ precision, ofPairs, ofRows, theirs });
    }
    say(
      'Preferences: a step of DPO on four pairs, after the reference has read them, and one on the same eight sequences as rows.',
    );
    say(
      table(
        ['precision', 'tokens', 'pairs, s a step', 'rows, s a step', 'pairs by rows', 'tokens/s', "TRL's DPO", 'ratio'],
        results.map(({ precision, ofPairs, ofRows, theirs }) => [
          precision,
          `${ofPairs.tokens}, ${ofRows.tokens}`,
          ofPairs.seconds_per_step.toFixed(3),
          ofRows.seconds_per_step.toFixed(3),
          `${(ofPairs.seconds_per_step / ofRows.seconds_per_step).toFixed(2)} ×`,
          ofPairs.tokens_per_second.toFixed(0),
          theirs ? theirs.tokens_per_second.toFixed(0) : 'not run',
          theirs ? `${(ofPairs.tokens_per_second / theirs.tokens_per_second).toFixed(1)} ×` : '',
        ]),
      ),
    );
    return results;
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** A step of GRPO: eight answers to each of four prompts are sampled, graded, and trained on. And TRL's on the same prompts. */
export async function rewards() {
  const [groups, size, longest] = quick ? [2, 4, 32] : [4, 8, 64];
  const steps = 3;
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-rewards-'));
  try {
    // Stories are longer than answers may be, so that all answers have the same length, with us as with TRL.
    const rows = Array.from({ length: groups * steps }, (_, i) => {
      const content = `Write a long story about ship number ${i + 1}: its crew, its storms, and the islands that it found.`;
      return `${JSON.stringify({ prompt: [{ role: 'user', content }], reference: null })}\n`;
    });
    const prompts = path.join(scratch, 'prompts.jsonl');
    await writeFile(prompts, rows.join(''));
    const objective = {
      kind: /** @type {const} */ ('group-relative'),
      grader: { type: /** @type {const} */ ('regex'), pattern: 'island' },
      group_size: size,
      max_completion_tokens: longest,
    };
    // In float32, both are slower.
    const precision = /** @type {const} */ ('bfloat16');
    const training = {
      ...{ precision, batch_size: groups, gradient_accumulation_steps: 1, max_steps: steps },
      ...{ learning_rate: 1e-6, max_seq_length: 512, on_overflow: 'error' },
    };
    const ours = await measured('train', { rows: prompts, count: rows.length, objective, training });
    const parameters = ['--method', 'grpo', '--rows', String(rows.length), '--precision', precision];
    const sizes = ['--batch-size', String(groups), '--group-size', String(size), '--max-completion', String(longest)];
    const theirs =
      options['peer-python'] === undefined
        ? null
        : await peer('trl_baseline.py', [model, prompts, ...parameters, ...sizes]);
    say(
      `Rewards: a step of GRPO with ${size} answers of up to ${longest} tokens to each of ${groups} prompts, from sampling to update.`,
    );
    say(
      table(
        ['', 'tokens of an answer', 's a step', 'memory', 'ratio'],
        [
          ['ours', ours.answer_tokens.toFixed(1), ours.seconds_per_step.toFixed(2), gigabytes(ours.peak_rss_bytes), ''],
          ...(theirs === null
            ? []
            : [
                [
                  "TRL's GRPO",
                  theirs.answer_tokens.toFixed(1),
                  theirs.seconds_per_step.toFixed(2),
                  `${theirs.peak_rss_gb} GB`,
                  `${(theirs.seconds_per_step / ours.seconds_per_step).toFixed(1)} ×`,
                ],
              ]),
        ],
      ),
    );
    return { precision, ours, theirs };
  } finally {
    await rm(scratch, { recursive: true });
  }
}
