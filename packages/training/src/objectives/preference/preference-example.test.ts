import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type JobRequest, JobSpec, objectiveOf, type PreferenceMetrics } from '@lorasmith/contracts';
import { openExampleStore } from '@lorasmith/planning';
import { Value } from 'typebox/value';
import { expect, test } from 'vitest';
import { writeRows } from '../../../test/a-job.js';
import { train } from '../../train.js';

const fromRoot = (path: string) => fileURLToPath(new URL(`../../../../../${path}`, import.meta.url));
const EXAMPLE = fromRoot('examples/preferences');
const MODEL = join(process.env.MODELS_DIR ?? fromRoot('models'), 'SmolLM2-135M-Instruct');

test('the job of examples/preferences makes the demo model prefer one form of dates to the other', async () => {
  if (!existsSync(join(MODEL, 'config.json'))) throw new Error(`${MODEL} is missing: npm run setup makes it.`);
  const folder = await mkdtemp(join(tmpdir(), 'preference-example-'));
  try {
    const rowsOf = async (name: string): Promise<object[]> => {
      const lines = (await readFile(join(EXAMPLE, name), 'utf8')).trimEnd().split('\n');
      return lines.map((line) => JSON.parse(line) as object);
    };
    const [rowsFile, heldout] = ['pairs.jsonl', 'heldout.jsonl'].map((name) => join(folder, name)) as [string, string];
    const dataset = await writeRows(rowsFile, 'preference', await rowsOf('pairs.jsonl'));
    const validation = {
      ...(await writeRows(heldout, 'preference', await rowsOf('heldout.jsonl'))),
      id: `ds_${'1'.repeat(24)}`,
    };
    const request = JSON.parse(await readFile(join(EXAMPLE, 'job.json'), 'utf8')) as JobRequest;
    const { objective, ...given } = { ...request, dataset: dataset.id, validation: { dataset: validation.id } };
    const spec = Value.Parse(JobSpec, Value.Default(JobSpec, { ...given, objective: objectiveOf(objective!) }));
    const outputFolder = join(folder, 'output');
    await mkdir(outputFolder);
    const { result, report } = await train({
      spec,
      dataset,
      rowsFile,
      validation: { dataset: validation, rowsFile: heldout },
      modelFolder: MODEL,
      examples: await openExampleStore({ dataDir: folder, maxBytes: 2 ** 26 }),
      checkpointFolder: join(folder, 'checkpoints'),
      outputFolder,
      initialAdapterFolder: null,
      signal: new AbortController().signal,
      onEvent: () => {},
    });
    const [before, after] = [result.evaluation_before!.preference!, result.evaluation_after!.preference!];
    const apart = (metrics: PreferenceMetrics) => metrics['logps/chosen'] - metrics['logps/rejected'];
    expect(Math.abs(apart(before))).toBeLessThan(2);
    expect(apart(after)).toBeGreaterThan(3);
    // 11 of the 12 pairs.
    expect(after['rewards/accuracies']).toBeGreaterThan(0.9);
    expect(report.preference).toMatchObject({ pairs: 60, reference_accuracy: expect.any(Number) });
    expect(after['logps/chosen']).toBeGreaterThan(before['logps/chosen']);
  } finally {
    await rm(folder, { recursive: true });
  }
});
