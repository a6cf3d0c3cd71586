// npm run gpu-check -- --out FOLDER [--python PYTHON] [--only NAMES] [--emulated] …
// Does everything that only a GPU can show, most important first, within a time, and writes each result when it is there:
// FOLDER/report.md, FOLDER/results.json, FOLDER/logs. docs/testing.md describes the parts.
import { mkdir, readFile, rm } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { SetupError } from '../../scripts/setup/run-steps.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { kernelChoice } from './gpu-check/kernel-choice.mjs';
import { Report } from './gpu-check/report.mjs';
import { countingLaunches, readLaunches, runPart } from './gpu-check/run-part.mjs';

/** The time of all parts together; set-up, which needs no card, is not counted. */
const TIME_MINUTES = 25;
/** A part with less time than this is not begun. */
const LEAST_SECONDS = 15;
/** An emulated card has this many times the time. */
const EMULATION_FACTOR = 20;

const USAGE = `npm run gpu-check -- --out FOLDER [options]

  --out FOLDER       report.md, results.json, logs; written as parts end
  --python PYTHON    with torch for this GPU, transformers, peft, trl and datasets: the same rows are trained with them
  --only NAMES       parts, separated by commas
  --minutes N        for all parts together, most important first (default: ${TIME_MINUTES}); the report names what is left out
  --emulated         on an emulated card, with small models: everything but speed
  --model FOLDER     base model of the demo's job (default: the demo's; with --emulated a tiny one)
  --max-steps N      of the demo's job (default: all; with --emulated 6)
  --precision NAME   of the demo's job, float32 or bfloat16 (default: bfloat16)
  --models-dir FOLDER  where models with random weights are written (default: FOLDER of --out)`;

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    python: { type: 'string' },
    only: { type: 'string' },
    minutes: { type: 'string', default: String(TIME_MINUTES) },
    emulated: { type: 'boolean', default: false },
    model: { type: 'string' },
    'max-steps': { type: 'string' },
    precision: { type: 'string', default: 'bfloat16' },
    'models-dir': { type: 'string' },
    help: { type: 'boolean' },
  },
});

await runAsCommand(async () => {
  const minutes = Number(values.minutes);
  const isWrong = !['float32', 'bfloat16'].includes(values.precision) || !(minutes > 0);
  if (values.help || values.out === undefined || isWrong) {
    console.error(USAGE);
    return values.help ? 0 : 2;
  }
  // npm runs scripts in the repository's root, but file names are relative to the user's current folder.
  const fromUser = (/** @type {string} */ file) => path.resolve(process.env.INIT_CWD ?? process.cwd(), file);
  const out = fromUser(values.out);
  for (const folder of ['logs', 'parts', 'data']) await mkdir(path.join(out, folder), { recursive: true });
  const { emulated: isEmulated, model, python } = values;
  const { modelsDir } = await setUp({ cuda: isEmulated ? 'emulated' : 'gpu' });
  // Only now: it imports compiled packages.
  const { prepareCheck, identityOf } = await import('./gpu-check/prepare-check.mjs');
  const check = await prepareCheck({
    ...{ out, modelsDir, isEmulated, env: process.env },
    randomModelsDir: fromUser(values['models-dir'] ?? out),
    model: model === undefined ? undefined : fromUser(model),
    maxSteps: values['max-steps'] === undefined ? undefined : Number(values['max-steps']),
    precision: values.precision,
    python: python === undefined ? undefined : fromUser(python),
    log: console.log,
  });
  const report = new Report(out, {
    started: new Date().toISOString(),
    ...(await identityOf(process.env)),
    card: isEmulated ? 'EMULATED on the CPU: times say nothing about a card' : 'see "Driver and card"',
    host: `${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${Math.round(totalmem() / 1e9)} GB, Node ${process.versions.node}`,
  });
  const isInterrupted = await runParts(check, report, { only: values.only?.split(','), minutes });
  process.stdout.write(`${path.join(out, 'report.md')}\n`);
  return isInterrupted ? 130 : report.isGood ? 0 : 1;
});

/**
 * @param {import('./gpu-check/parts.mjs').Check} check
 * @param {Report} report
 * @param {{ only: string[] | undefined, minutes: number }} options
 * @returns {Promise<boolean>} whether it was interrupted
 */
async function runParts(check, report, { only, minutes }) {
  const { partsOf, selfTestFile } = await import('./gpu-check/parts.mjs');
  const { summaryOf } = await import('./gpu-check/findings.mjs');
  const all = partsOf(check);
  const parts = all.filter(({ name }) => only?.includes(name) ?? true);
  if (parts.length === 0) throw new SetupError(`--only names no part`, `use names of ${all.map(({ name }) => name)}.`);

  const { out, isEmulated } = check;
  const launchesDir = path.join(out, 'launches');
  await rm(launchesDir, { recursive: true, force: true });
  const selfTest = () => readFile(selfTestFile(check), 'utf8').then(JSON.parse, () => null);
  if (parts.some(({ name }) => name === 'self-test')) await rm(selfTestFile(check), { force: true });
  const interrupted = interruption();
  const timeIsOver = `the ${minutes} minutes were over`;
  const startedAt = performance.now();
  /** @type {Map<string, import('./gpu-check/run-part.mjs').PartEnd>} */
  const done = new Map();
  /** @type {string[]} */
  let summary = [];
  for (const { name, title, limitSeconds, command, describe } of parts) {
    const left = isEmulated ? limitSeconds * EMULATION_FACTOR : 60 * minutes - (performance.now() - startedAt) / 1e3;
    const reason = interrupted.aborted ? 'interrupted' : left < LEAST_SECONDS ? timeIsOver : null;
    if (reason !== null) {
      report.add({ name, title, ending: 'not run', how: reason, seconds: 0, lines: [], result: null });
    } else {
      process.stdout.write(`${title} …\n`);
      const limitMs = 1e3 * (isEmulated ? left : Math.min(limitSeconds, left));
      const { env, ...program } = command(kernelChoice(await selfTest()));
      const counting = { ...program, env: countingLaunches(env, path.join(launchesDir, name)) };
      const end = await runPart({ name, out, limitMs, command: counting, signal: interrupted });
      done.set(name, end);
      const { seconds, result, log } = end;
      const isCut = end.ending === 'out of time' && !isEmulated && left < limitSeconds;
      const ending = isCut ? /** @type {const} */ ('cut short') : end.ending;
      const how = isCut ? timeIsOver : end.how;
      const lines = describe(end, done);
      if (result?.header) report.describe(result.header);
      report.add({ name, title, ending, how, seconds, lines, result, log });
      process.stdout.write([`${ending} in ${seconds.toFixed(1)} s`, ...lines, '', ''].join('\n'));
    }
    const launches = await readLaunches(launchesDir);
    summary = summaryOf({
      check,
      report,
      done,
      launches,
      selfTest: await selfTest(),
      areLeft: report.parts.length < parts.length,
    });
    report.summarize(summary);
  }
  process.stdout.write(`${summary.join('\n')}\n\n`);
  return interrupted.aborted;
}
