import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Dataset, type JobRequest, JobSpec, objectiveOf, type PreferenceMetrics } from '@lorasmith/contracts';
import { openExampleStore } from '@lorasmith/planning';
import { Value } from 'typebox/value';
import { expect, test } from 'vitest';
import { usualCases } from '../../../../../test/usual-cases.js';
import { writeRows } from '../../../test/a-job.js';
import { train } from '../../train.js';

const fromRoot = (path: string) => fileURLToPath(new URL(`../../../../../${path}`, import.meta.url));
const EXAMPLE = fromRoot('examples/preferences');
const MODEL = join(process.env.MODELS_DIR ?? fromRoot('models'), 'SmolLM2-135M-Instruct');

interface Example {
  name: string;
  format: Dataset['format'];
  rows: string;
  heldout: string;
  job: string;
}

const EXAMPLES: Example[] = [
  {
    name: 'pairs of answers',
    format: 'preference',
    rows: 'pairs.jsonl',
    heldout: 'heldout.jsonl',
    job: 'job.json',
  },
  {
    name: 'answers with a label',
    format: 'labelled_completion',
    rows: 'answers.jsonl',
    heldout: 'heldout-answers.jsonl',
    job: 'kto-job.json',
  },
];

// Each takes a minute: continuous integration alone trains the second.
test.each(usualCases(EXAMPLES, 1))(
  'the job of examples/preferences on $name makes the demo model prefer one form of dates',
  async (example) => {
    if (!existsSync(join(MODEL, 'config.json'))) throw new Error(`${MODEL} is missing: npm run setup makes it.`);
    const folder = await mkdtemp(join(tmpdir(), 'preference-example-'));
    try {
      const written = async (name: string, id: string) => {
        const lines = (await readFile(join(EXAMPLE, name), 'utf8')).trimEnd().split('\n');
        const rowsFile = join(folder, name);
        const rows = lines.map((line) => JSON.parse(line) as object);
        return {
          rowsFile,
          dataset: { ...(await writeRows(rowsFile, example.format, rows)), id: `ds_${id.repeat(24)}` },
        };
      };
      const base = await written(example.rows, '0');
      const validation = await written(example.heldout, '1');
      const request = JSON.parse(await readFile(join(EXAMPLE, example.job), 'utf8')) as JobRequest;
      const named = { dataset: base.dataset.id, validation: { dataset: validation.dataset.id } };
      const { objective, ...given } = { ...request, ...named };
      const spec = Value.Parse(JobSpec, Value.Default(JobSpec, { ...given, objective: objectiveOf(objective!) }));
      const outputFolder = join(folder, 'output');
      await mkdir(outputFolder);
      const { result, report } = await train({
        ...base,
        spec,
        validation,
        modelFolder: MODEL,
        examples: await openExampleStore({ dataDir: folder, maxBytes: 2 ** 26 }),
        checkpointFolder: join(folder, 'checkpoints'),
        outputFolder,
        initialAdapterFolder: null,
        signal: new AbortController().signal,
        onEvent: () => {},
      });
      const [before, after] = [result.evaluation_before!.preference!, result.evaluation_after!.preference!];
      const apart = (metrics: PreferenceMetrics) => metrics['logps/chosen']! - metrics['logps/rejected']!;
      expect(Math.abs(apart(before))).toBeLessThan(2);
      expect(apart(after)).toBeGreaterThan(3);
      // 11 of the 12 rows.
      expect(after['rewards/accuracies']).toBeGreaterThan(0.9);
      expect(report.rows).toMatchObject({ training: 60, validation: 12 });
      expect(after['logps/chosen']).toBeGreaterThan(before['logps/chosen']!);
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);
