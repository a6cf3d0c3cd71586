import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { documentedCommands, runCommands } from './documented-commands.mjs';

/**
 * What the Prometheus of docker/compose.monitoring.yml is answered: without keys for its empty file, and then for the key that
 * docs/operations.md has made.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {{ folder: string, signal: AbortSignal }} options
 * @returns {Promise<string>} a line for the report
 */
export async function checkMetricsKey(stack, { folder, signal }) {
  const ask = async (/** @type {string} */ key) => {
    const response = await fetch(`${stack.apiUrl}/metrics`, { headers: { authorization: `Bearer ${key}` }, signal });
    await response.text();
    return response.status;
  };
  const open = await ask('');
  const commands = await documentedCommands("Once there are API keys, the api's figures");
  await runCommands(commands, { cwd: folder, env: stack.shellEnvironment, signal });
  const key = (await readFile(path.join(folder, 'metrics-key'), 'utf8')).trim();
  const answers = [open, await ask(key), await ask('')];
  if (answers.join() !== '200,200,401') throw new Error(`it was answered ${answers.join(', ')}`);
  return 'without keys 200, with one 200 for it, and 401 for none';
}
