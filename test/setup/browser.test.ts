import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findBrowser } from '../../scripts/setup/browser.mjs';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-browsers-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function program(name: string, script: string): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return file;
}

const find = (env: NodeJS.ProcessEnv) => findBrowser({ cache: folder, env, progress: { update() {} } });

test('a browser on the PATH that does not start is passed over', async () => {
  await program('chromium', 'echo "install the snap" >&2; exit 1');
  const chrome = await program('google-chrome', 'echo "Google Chrome 150.0.1.2 "');
  expect(await find({ PATH: folder })).toEqual({ file: chrome, env: {}, origin: `Google Chrome 150.0.1.2, ${chrome}` });
});

test('the program of CHROMIUM_FILE is used, and one that does not start is an error that says what to do', async () => {
  const file = await program('my-browser', 'echo Chromium 151.0.0.1 built on a machine');
  expect(await find({ PATH: folder, CHROMIUM_FILE: file })).toMatchObject({ file });
  const missing = path.join(folder, 'missing');
  await expect(find({ PATH: folder, CHROMIUM_FILE: missing })).rejects.toMatchObject({
    message: expect.stringContaining('CHROMIUM_FILE does not name a browser that starts'),
    remedy: expect.stringContaining('apt-get install chromium'),
  });
});
