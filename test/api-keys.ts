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

/**
 * Creates an API key.
 * @param owner - The id of the key whose things it reads
 * @returns its secret
 */
export async function createKey(stack: { redisUrl: string }, role: 'train' | 'read', owner?: string): Promise<string> {
  const owned = owner === undefined ? [] : ['--owner', owner];
  const answer = await runKeys(stack, ['create', '--name', 'test', '--role', role, ...owned, '--json']);
  return (JSON.parse(answer) as { token: string }).token;
}
