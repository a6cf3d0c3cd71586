import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

test('a signal that npm passes on once more is the same wish; one a while later ends the process at once', async () => {
  const program = fileURLToPath(new URL('fixtures/slow-to-stop.mjs', import.meta.url));
  const child = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.on('data', (chunk: Buffer) => {
    printed += chunk.toString();
  });
  await expect.poll(() => printed).toBe('running\n');
  child.kill('SIGINT');
  await expect.poll(() => printed).toBe('running\nstopping\n');
  child.kill('SIGINT');
  await sleep(1_200);
  expect(child.exitCode).toBeNull();
  child.kill('SIGINT');
  const [code] = await once(child, 'exit');
  expect(code).toBe(130);
  expect(printed).toBe('running\nstopping\n');
});
