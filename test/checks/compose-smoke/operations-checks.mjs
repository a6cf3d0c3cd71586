import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { documentedCommands, runCommands } from './documented-commands.mjs';

/**
 * Backs up the stack, removes its volumes and restores them, with the commands of docs/operations.md.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {{ folder: string, everything: () => Promise<string>, signal: AbortSignal }} options `folder`: an empty folder
 *   for the backup; `everything`: the data that must be unchanged after it
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when a command fails or data differ
 */
export async function checkBackup(stack, { folder, everything, signal }) {
  const options = { cwd: folder, env: stack.shellEnvironment, signal };
  const run = async (/** @type {string} */ after) => await runCommands(await documentedCommands(after), options);
  const before = await everything();
  await run('**While it runs, with Compose:**');
  await run('**Read it**');
  await stack.compose(['down', '--volumes']);
  await run('**Restore**');
  const after = await everything();
  if (after !== before) throw new Error(`before: ${before}\nafter: ${after}`);
  const sizes = await Promise.all(
    ['redis.rdb', 'data.tar'].map(
      async (name) => `${name} ${(await stat(path.join(folder, 'backup', name))).size} bytes`,
    ),
  );
  return `identical, byte for byte, restored from ${sizes.join(' and ')}`;
}

/**
 * Checks the access of the Prometheus of docker/compose.monitoring.yml to the metrics: with its empty key file while there
 * are no API keys, and with the key that the commands of docs/operations.md create.
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
  if (answers.join() !== '200,200,401') throw new Error(`the answers were ${answers.join(', ')}`);
  return '200 while there are no API keys; then 200 with a key and 401 without one';
}
