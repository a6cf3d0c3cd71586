import { stat } from 'node:fs/promises';
import path from 'node:path';
import { documentedCommands, runCommands } from './documented-commands.mjs';

/**
 * Backs the stack up, takes its volumes away and restores it, by the commands of docs/operations.md as they stand there.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {{ folder: string, everything: () => Promise<string>, signal: AbortSignal }} options `folder`: an empty one for the
 *   backup; `everything`: what must be the same after it
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when a command fails, or something is not the same
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
  return `the same, byte for byte, out of ${sizes.join(' and ')}`;
}
