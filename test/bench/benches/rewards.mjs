import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measured, peer, say } from '../measured.mjs';
import { model, options, quick } from '../options.mjs';
import { gigabytes, table } from '../tables.mjs';

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
