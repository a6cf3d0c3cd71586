import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measured, peer, say } from '../measured.mjs';
import { count, model, options, quick, ROOT } from '../options.mjs';
import { table } from '../tables.mjs';

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
