import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findGoProgram } from '../../../scripts/setup/go-program.mjs';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { availablePort } from '../../../scripts/stack/ports.mjs';

const run = promisify(execFile);
const HEADERS = fileURLToPath(new URL('headers', import.meta.url));

/**
 * Ollama for processors. Its module has llama.cpp, without two libraries of headers: Debian has them as nlohmann-json3-dev and libstb-dev.
 * @type {import('../../../scripts/setup/go-program.mjs').GoProgram}
 */
const OLLAMA = {
  name: 'ollama',
  modulePackage: 'github.com/ollama/ollama',
  version: 'v0.17.4',
  goVersion: [1, 25],
  settings: { CGO_ENABLED: '1', CPLUS_INCLUDE_PATH: HEADERS },
};

/** The program: OLLAMA in the environment, or compiled. @returns {Promise<{ file: string, origin: string }>} */
export async function findOllama() {
  const { env } = process;
  if (env.OLLAMA) return { file: env.OLLAMA, origin: env.OLLAMA };
  const progress = { update: () => {} };
  console.error(
    `compiling Ollama ${OLLAMA.version}, about half an hour the first time; OLLAMA names a program instead`,
  );
  return await findGoProgram(OLLAMA, { cache: cacheDir(env), env, progress });
}

/**
 * @typedef {{ role: string, content: string }} Message
 * @typedef {object} ChatAnswer
 * @property {string} text
 * @property {string[]} tokens
 * @property {number} promptTokens
 */

const START_TIMEOUT_MS = 120_000;
const TAIL_CHARACTERS = 4_000;

/**
 * Starts `ollama serve` on a free port of the loopback interface, with its models in `folder`.
 * @param {string} file @param {string} folder @param {AbortSignal} signal
 */
export async function startOllama(file, folder, signal) {
  const port = await availablePort('127.0.0.1', 0, 'OLLAMA_HOST');
  const env = {
    ...process.env,
    ...{ HOME: folder, OLLAMA_MODELS: path.join(folder, 'models'), OLLAMA_HOST: `127.0.0.1:${port}` },
    // Attention as the other servers compute it; one conversation at a time.
    ...{ OLLAMA_FLASH_ATTENTION: 'false', OLLAMA_NUM_PARALLEL: '1', OLLAMA_MAX_LOADED_MODELS: '1' },
  };
  const child = spawn(file, ['serve'], { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env });
  let tail = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (/** @type {Buffer} */ chunk) => {
      tail = (tail + chunk.toString()).slice(-TAIL_CHARACTERS);
    });
  }
  const exited = once(child, 'exit');
  const url = `http://127.0.0.1:${port}`;
  const ask = async (/** @type {string} */ call, /** @type {unknown} */ body) => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}${call}`, { method: 'POST', headers, body: JSON.stringify(body), signal });
    const text = await response.text();
    if (!response.ok) throw new Error(`Ollama answers ${call} with ${response.status}: ${text}\n${tail}`);
    return JSON.parse(text);
  };
  const stop = async () => {
    // Its runners are in the same group.
    if (child.exitCode === null) process.kill(-(/** @type {number} */ (child.pid)), 'SIGTERM');
    await exited;
  };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
  try {
    for (;;) {
      const answers = await fetch(url).then(
        ({ ok }) => ok,
        () => false,
      );
      if (answers) break;
      if (child.exitCode !== null) throw new Error(`ollama serve ended with ${child.exitCode}: ${tail}`);
      await sleep(100, undefined, { signal: limit });
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    stop,
    /** Makes a model of the Modelfile in a folder, with the command that its first line names. @param {string} name @param {string} of */
    async create(name, of) {
      await run(file, ['create', name, '-f', 'Modelfile'], { cwd: of, env, signal });
    },
    /**
     * The likeliest answer to a conversation.
     * @param {string} model @param {Message[]} messages @param {number} tokens @returns {Promise<ChatAnswer>}
     */
    async chat(model, messages, tokens) {
      const options = { temperature: 0, num_predict: tokens };
      const answer = await ask('/api/chat', { model, messages, stream: false, options, logprobs: true });
      return {
        text: answer.message.content,
        tokens: (answer.logprobs ?? []).map((/** @type {{ token: string }} */ { token }) => token),
        promptTokens: answer.prompt_eval_count,
      };
    },
    /** The text that a conversation becomes. @param {string} model @param {Message[]} messages @returns {Promise<string>} */
    async rendered(model, messages) {
      const answer = await ask('/api/chat', { model, messages, stream: false, _debug_render_only: true });
      return answer._debug_info.rendered_template;
    },
  };
}
