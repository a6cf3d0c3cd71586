import type { PreferenceMetrics } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { HAS_ALL_CASES } from '../../../../../test/usual-cases.js';
import { type ExampleJob, trainExample } from '../../../test/train-example.js';

const EXAMPLES: (ExampleJob & { name: string })[] = [
  {
    name: 'pairs of answers',
    folder: 'examples/preferences',
    format: 'preference',
    rows: 'pairs.jsonl',
    heldout: 'heldout.jsonl',
    job: 'job.json',
  },
  {
    name: 'answers with a label',
    folder: 'examples/preferences',
    format: 'labelled_completion',
    rows: 'answers.jsonl',
    heldout: 'heldout-answers.jsonl',
    job: 'kto-job.json',
  },
];

// Each takes a minute: continuous integration alone trains them.
test.runIf(HAS_ALL_CASES).each(EXAMPLES)(
  'the job of examples/preferences on $name makes the demo model prefer one form of dates',
  async (example) => {
    const { result, report } = await trainExample(example);
    const [before, after] = [result.evaluation_before!.preference!, result.evaluation_after!.preference!];
    const apart = (metrics: PreferenceMetrics) => metrics['logps/chosen']! - metrics['logps/rejected']!;
    expect(Math.abs(apart(before))).toBeLessThan(2);
    expect(apart(after)).toBeGreaterThan(3);
    // 11 of the 12 rows.
    expect(after['rewards/accuracies']).toBeGreaterThan(0.9);
    expect(report.rows).toMatchObject({ training: 60, validation: 12 });
    expect(after['logps/chosen']).toBeGreaterThan(before['logps/chosen']!);
  },
);
