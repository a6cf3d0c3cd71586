// npm run bench -- [--rows FILE.jsonl] [--count 64] [--model FOLDER] [--peer-python PYTHON] [--quick] [--only NAMES] [--shape NAME] [--out FILE.json]
// Prints tables, and writes everything as JSON when --out is given. test/bench/README.md says what is measured and how.
import { writeFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { onInterruption } from '../../scripts/stack/interruption.mjs';
import { around } from './benches/around.mjs';
import { estimate, experts } from './benches/estimate.mjs';
import { fleet } from './benches/fleet.mjs';
import { jobs } from './benches/jobs.mjs';
import { fairness, neighbour } from './benches/keys.mjs';
import { lists } from './benches/lists.mjs';
import { loop } from './benches/loops.mjs';
import { sweeps } from './benches/sweeps.mjs';
import { delta, growth, profile, session, share } from './benches/training-steps.mjs';
import { optimizers, preferences, rewards, speed } from './benches/trainings.mjs';
import { loading, quantized } from './benches/weights.mjs';
import { model, options, say, withProgress } from './harness.mjs';
import { gigabytes } from './tables.mjs';

/** The parts that run without --only. */
const USUAL = {
  speed,
  share,
  growth,
  estimate,
  loading,
  profile,
  around,
  jobs,
  fairness,
  sweeps,
  quantized,
  optimizers,
  preferences,
  rewards,
  session,
  loop,
};
/** Only with --only: the parts for models that have something of their own, and those that take long. */
const WHEN_NAMED = { delta, experts, fleet, lists, neighbour };
/** @type {Record<string, () => Promise<object>>} */
const BENCHES = { ...USUAL, ...WHEN_NAMED };

const names = options.only?.split(',') ?? Object.keys(USUAL);
const unknown = names.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) {
  console.error(`There is no part ${unknown.join(', ')}. The parts are ${Object.keys(BENCHES).join(', ')}.`);
  process.exit(2);
}

/** @type {Record<string, unknown>} */
const results = {
  machine: `${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${gigabytes(totalmem())}`,
  node: process.versions.node,
  model: path.basename(model),
};
say(`${results.machine}, Node ${results.node}, ${results.model}\n`);
onInterruption(() => {
  process.stderr.write('Interrupted.\n');
  process.exit(130);
});
const parameters = [path.basename(model), options.quick ? 'quick' : '', options['peer-python'] ? 'peer' : '']
  .join(' ')
  .trim();
await withProgress(names, parameters, async (name) => {
  results[name] = await BENCHES[name]?.();
});
if (options.out !== undefined) await writeFile(options.out, `${JSON.stringify(results, null, 2)}\n`);
