import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { say } from '../measured.mjs';
import { medianRound } from '../median-round.mjs';
import { model, options, quick } from '../options.mjs';
import { estimateJobs, estimateTable, jobOfShape } from '../parts/estimate-jobs.mjs';
import { SHAPES, writeRandomModel } from '../random-model.mjs';

/** The estimates of dry_run against measurements of real jobs; with --shape, of one job on a model of that shape in 4 bits. */
export async function estimate() {
  const shape = shapeNamed(options.shape);
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-estimate-'));
  try {
    const write = async (/** @type {keyof typeof SHAPES} */ name) => {
      const folder = path.join(scratch, `llama-${name}`);
      await writeRandomModel(folder, { family: 'llama', shape: SHAPES[name], tokenizerFrom: model });
      return folder;
    };
    const jobs = shape === null ? await estimateJobs({ rows: options.rows, write }) : [await jobOfShape(shape, write)];
    const rows = [];
    for (const { name, ...job } of jobs) rows.push({ name, ...(await medianRound(job, quick ? 1 : 3)) });
    say('Estimates of dry_run, and measurements of the job.');
    say(estimateTable(rows));
    return { rows };
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/**
 * @param {string | undefined} name
 * @returns {keyof typeof SHAPES | null}
 */
function shapeNamed(name) {
  if (name === undefined) return null;
  if (name in SHAPES) return /** @type {keyof typeof SHAPES} */ (name);
  throw new Error(`there is no shape ${name}. The shapes are ${Object.keys(SHAPES).join(', ')}`);
}
