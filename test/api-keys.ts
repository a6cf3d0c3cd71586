import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PROGRAM = fileURLToPath(new URL('../services/api/dist/keys.js', import.meta.url));

/** Runs the operator's command for API keys. @returns what it prints */
export async function runKeys({ redisUrl }: { redisUrl: string }, args: readonly string[]): Promise<string> {
  const env = { ...process.env, REDIS_URL: redisUrl };
  return (await run(process.execPath, [PROGRAM, ...args], { env })).stdout;
}

/** Creates an API key. @returns its secret */
export async function createKey(stack: { redisUrl: string }, role: 'train'): Promise<string> {
  const answer = await runKeys(stack, ['create', '--name', 'test', '--role', role, '--json']);
  return (JSON.parse(answer) as { token: string }).token;
}
