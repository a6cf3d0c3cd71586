import { expect, test } from 'vitest';
import { trainExample } from '../../../test/train-example.js';

/** Far longer than it takes on a busy machine. */
const TIMEOUT_MS = 1_800_000;

/** It takes minutes: `npm run test:all -- --only rewards-example`. */
const isAsked = process.env.REWARDS_EXAMPLE === '1';

test.runIf(isAsked)(
  'the job of examples/rewards raises the reward of answers to prompts that it has not seen',
  async () => {
    const { result, report } = await trainExample({
      folder: 'examples/rewards',
      format: 'graded_prompt',
      rows: 'prompts.jsonl',
      heldout: 'heldout.jsonl',
      job: 'job.json',
      // A worker chooses it: float32 takes several times as long.
      training: { precision: 'bfloat16' },
    });
    const [before, after] = [result.evaluation_before!.group!, result.evaluation_after!.group!];
    expect(report.rows).toMatchObject({ training: 48, validation: 12 });
    expect(after.reward).toBeGreaterThan(before.reward + 0.3);
  },
  TIMEOUT_MS,
);
