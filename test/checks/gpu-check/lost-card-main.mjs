// Breaks the card in the middle of a job, twice: so that a new process can use it again, and so that none can. Looks whether the
// job is finished both times, and writes what happened to RESULT_FILE.
// node lost-card-main.mjs --model FOLDER --rows FILE.jsonl --data-dir FOLDER [--fault address|719] [--at-launch N]
import { execFile } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { writePartResult } from './run-part.mjs';
import { demoJob, followJob, uploadRows, withStack } from './service-job.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    rows: { type: 'string', default: '' },
    'data-dir': { type: 'string', default: '' },
    fault: { type: 'string', default: 'address' },
    'at-launch': { type: 'string', default: '2000' },
  },
});
const MAX_STEPS = 4;
const ROWS = 48;

const model = path.resolve(values.model);
const dataDir = path.resolve(values['data-dir']);
/** The output of the services. @type {string[]} */
const written = [];
const log = (/** @type {string} */ line) => {
  console.log(line);
  written.push(line);
};
/** The worker's end of an attempt: a retry counts, and a job that is released has lost none. */
const hasOutcome = (/** @type {string} */ id, /** @type {string} */ outcome) =>
  written.some((line) => line.includes(`"job":"${id}"`) && line.includes(`"outcome":"${outcome}"`));
/** @type {string[]} */
const lines = [];
let isGood = true;

await mkdir(dataDir, { recursive: true });
const library = path.join(dataDir, 'fault-at-launch.so');
const file = path.join(dataDir, 'fault-happened');
const source = path.join(import.meta.dirname ?? '', 'fault-at-launch.c');
await promisify(execFile)(process.env.CC || 'gcc', ['-O1', '-shared', '-fPIC', source, '-o', library, '-ldl']);

// A worker tests and measures a card at its first start. Those processes must not be the ones that meet the fault.
if ((await readdir(path.join(dataDir, 'machines')).catch(() => [])).length === 0) {
  await withStack({ dataDir, model, env: process.env, log }, async (_, client) => {
    await followJob(client, await createJob(client));
  });
}

const crash = await underFault(values.fault);
check(crash.isBroken, `A launch was broken in a job (${values.fault}); a new process can use the card.`);
check(crash.ended === 'the job succeeded', `The same worker finishes the job: ${crash.ended}.`);
check(hasOutcome(crash.id, 'retry'), 'The crash counts as an attempt.');

const gone = await underFault('gone');
check(gone.isBroken, 'A launch was broken in a job; no new process finds the card.');
check(/worker exited with 69/.test(gone.ended), `The worker ends with 69: ${gone.ended}.`);
const job = await withStack({ dataDir, model, env: process.env, log }, (_, client) => followJob(client, gone.id));
check(job.status === 'succeeded', `The next worker finishes the job: ${job.status} ${job.error?.message ?? ''}`);
check(hasOutcome(gone.id, 'released'), 'The attempt on the lost card is not counted: the job was released.');
process.exitCode = isGood ? 0 : 1;

/** @param {import('../../../packages/client/dist/index.js').Client} client */
async function createJob(client) {
  const dataset = await uploadRows(client, { rows: values.rows, count: ROWS });
  return (
    await client.createJob(
      demoJob({ model: path.basename(model), dataset, precision: 'bfloat16', maxSteps: MAX_STEPS }),
    )
  ).id;
}

/**
 * Runs a job in a stack whose engine meets the fault.
 *
 * @param {string} fault see fault-at-launch.c
 */
async function underFault(fault) {
  await rm(file, { force: true });
  const env = {
    ...process.env,
    LD_PRELOAD: library,
    FAULT: fault,
    FAULT_FILE: file,
    FAULT_AT_LAUNCH: values['at-launch'],
  };
  let id = '';
  const ended = await withStack({ dataDir, model, env, log }, async (_, client) => {
    id = await createJob(client);
    const job = await followJob(client, id);
    return `the job ${job.status}${job.error === null ? '' : `: ${job.error.message}`}`;
  }).catch((error) => String(error.message));
  const isBroken = (await readdir(dataDir)).includes(path.basename(file));
  return { id, ended, isBroken };
}

/** @param {boolean} holds @param {string} text */
function check(holds, text) {
  isGood &&= holds;
  lines.push(`- ${holds ? 'yes' : '**no**'}: ${text}`);
  writePartResult({ lines });
}
