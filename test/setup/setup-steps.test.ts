import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { checkNodeVersion, checkPlatform } from '../../scripts/setup/prerequisites.mjs';
import { findRedis } from '../../scripts/setup/redis-server.mjs';
import { runCommand } from '../../scripts/setup/run-command.mjs';
import { describeFailure, runSteps, SetupError } from '../../scripts/setup/run-steps.mjs';
import { libraryIn } from '../../scripts/setup/tensorflow-library.mjs';

let folder: string;
const progress = { update() {} };

/** The text that was written so far. `read` gives all of it in Node 20, and one write in Node 26. */
async function textOf(output: PassThrough): Promise<string> {
  output.end();
  return await text(output);
}

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-setup-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

test.each(['20.17.0', '20.20.2', '22.0.0', '24.1.0', '26.10.0'])('Node %s is accepted', (version) => {
  expect(() => checkNodeVersion(version)).not.toThrow();
});

test.each(['18.20.0', '20.16.9'])('Node %s is refused, with the oldest supported version', (version) => {
  expect(() => checkNodeVersion(version)).toThrow(`this is Node ${version}; Lorasmith needs Node 20.17 or later`);
});

test('a platform without a pinned TensorFlow is refused', () => {
  expect(() => checkPlatform('linux', 'x64')).not.toThrow();
  expect(() => checkPlatform('darwin', 'arm64')).toThrow('this is darwin on arm64');
});

test('a failure shows the step, the reason, the remedy and the output of the command; later steps do not run', async () => {
  const ran: string[] = [];
  const remember = (step: string) => async () => {
    ran.push(step);
    return 'done';
  };
  const output = new PassThrough();
  const failure = await runSteps(
    [
      { name: 'First', run: remember('first') },
      {
        name: 'Second',
        run: () => runCommand('sh', ['-c', 'echo no space left >&2; exit 3'], { remedy: 'free some space.' }),
      },
      { name: 'Third', run: remember('third') },
    ],
    { output },
  ).catch((error: unknown) => error);
  expect(ran).toEqual(['first']);
  expect(await textOf(output)).toBe('[1/3] First: done\n');
  expect(describeFailure(failure)).toBe(
    '\nno space left\n\nSet-up failed at the step "Second": `sh -c echo no space left >&2; exit 3` exited with 3\nWhat to do: free some space.',
  );
});

test('rows of steps run at once, each in its order; after a failure in one the others end, and no later step runs', async () => {
  const ran: string[] = [];
  let open = () => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const step = (name: string, run = async () => {}) => ({
    name,
    run: async () => {
      await run();
      ran.push(name);
      return 'done';
    },
  });
  const fails = async () => {
    open();
    throw new Error('a full disk');
  };
  const rows = [
    [step('Waits', () => gate), step('Ends')],
    [step('Begins'), step('Fails', fails), step('Is left out')],
  ];
  const output = new PassThrough();
  const failure = await runSteps([{ atOnce: rows }, step('Later')], { output }).catch((error: unknown) => error);
  expect(ran).toEqual(['Begins', 'Waits', 'Ends']);
  expect(await textOf(output)).toBe('[3/6] Begins: done\n[1/6] Waits: done\n[2/6] Ends: done\n');
  expect(describeFailure(failure)).toContain('Set-up failed at the step "Fails": a full disk');
});

test('progress is written to a log at most every five seconds', async () => {
  const output = new PassThrough();
  let time = 0;
  const step = {
    name: 'Download',
    async run(shown: { update(text: string): void }) {
      for (time = 0; time < 12_000; time += 1_000) shown.update(`${time / 1000} MB`);
      return 'done';
    },
  };
  await runSteps([step], { output, now: () => time });
  expect((await textOf(output)).split('\n')).toEqual([
    '[1/1] Download: 0 MB',
    '[1/1] Download: 5 MB',
    '[1/1] Download: 10 MB',
    '[1/1] Download: done (12 s)',
    '',
  ]);
});

test('a missing command is an error that names it', async () => {
  await expect(runCommand('lorasmith-no-such-program', [])).rejects.toThrow(
    'lorasmith-no-such-program could not be started',
  );
});

test('the cache folder comes from LORASMITH_CACHE_DIR, else from XDG_CACHE_HOME', async () => {
  expect(cacheDir({ LORASMITH_CACHE_DIR: `${folder}/own`, XDG_CACHE_HOME: `${folder}/xdg` })).toBe(`${folder}/own`);
  expect(cacheDir({ XDG_CACHE_HOME: `${folder}/xdg` })).toBe(`${folder}/xdg/lorasmith`);
  await writeFile(`${folder}/file`, '');
  expect(() => cacheDir({ LORASMITH_CACHE_DIR: `${folder}/file/inside` })).toThrow(SetupError);
});

test('Redis: REDIS_URL is checked and comes first, then the servers on the PATH', async () => {
  const find = (env: NodeJS.ProcessEnv) => findRedis({ cache: folder, env, progress });
  const url = 'redis://:secret@127.0.0.1:6379';
  expect((await find({ REDIS_URL: url, PATH: folder })).source).toEqual({ url });
  const wrong = await find({ REDIS_URL: 'localhost secret' }).catch((error: Error) => error);
  expect(wrong).toMatchObject({ message: expect.not.stringContaining('secret') });

  await mkdir(`${folder}/redis-server`);
  await writeFile(`${folder}/valkey-server`, '#!/bin/sh\n', { mode: 0o755 });
  expect((await find({ PATH: `relative:${folder}` })).source).toEqual({ serverFile: `${folder}/valkey-server` });
});

test('LIBTENSORFLOW_DIR must be complete; missing files are named', async () => {
  await mkdir(`${folder}/lib`);
  await mkdir(`${folder}/include/tensorflow/c`, { recursive: true });
  await writeFile(`${folder}/lib/libtensorflow.so.2`, '');
  await writeFile(`${folder}/include/tensorflow/c/c_api.h`, '');
  const find = () => libraryIn(`${folder}/lib`, `${folder}/include`);
  expect(find).toThrow(`missing: ${folder}/lib/libtensorflow_framework.so.2`);
  await writeFile(`${folder}/lib/libtensorflow_framework.so.2`, '');
  expect(find()).toMatchObject({ cApiFile: `${folder}/lib/libtensorflow.so.2`, includeDir: `${folder}/include` });
});

test('each file that typebox exports imports joined modules', async () => {
  const typebox = new URL('../../packages/contracts/node_modules/typebox/', import.meta.url);
  const { exports } = JSON.parse(await readFile(new URL('package.json', typebox), 'utf8'));
  for (const { import: file } of Object.values<{ import: string }>(exports)) {
    const imported = (await readFile(new URL(file, typebox), 'utf8')).matchAll(/ from "(.+)"/g);
    expect([...imported].map(([, name]) => name)).toEqual(
      expect.arrayContaining([expect.stringContaining('/joined/')]),
    );
  }
});
