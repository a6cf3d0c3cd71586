import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

// `npm run gpu-check` on the emulated card, with a tiny model: what one starts on the day that a card is at hand.

const PROGRAM = fileURLToPath(new URL('../../checks/gpu-check.mjs', import.meta.url));
/** The others start whole stacks, which takes minutes on an emulated card. */
const PARTS = ['card', 'self-test', 'reference-float32', 'reference-bfloat16', 'speed-tiny'];

let out: string;
beforeAll(async () => {
  out = await mkdtemp(path.join(tmpdir(), 'emulated-check-'));
});
afterAll(() => rm(out, { recursive: true }));

test('parts that need no stack are done and reported', async () => {
  const child = spawn(process.execPath, [PROGRAM, '--emulated', '--out', out, '--only', PARTS.join()], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let written = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      written += chunk;
    });
  }
  const [code] = await once(child, 'close');
  const { parts } = JSON.parse(await readFile(path.join(out, 'results.json'), 'utf8'));
  const endings = Object.fromEntries(parts.map(({ name, ending }: Record<string, string>) => [name, ending]));
  expect(endings, written).toEqual(Object.fromEntries(PARTS.map((name) => [name, 'done'])));
  expect(code).toBe(0);
  const report = await readFile(path.join(out, 'report.md'), 'utf8');
  expect(report).toContain('EMULATED on the CPU');
  expect(report).toContain('the engine is trusted');
  expect(report).not.toContain('**no**');
  expect(report).toMatch(/\| 2 × 32 +\| +\d+ \| +\d+ \| +2 \| +0 \| +0 \|/);
}, 600_000);
