import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { redis, useRedis } from '../../../test/use-redis.js';
import { readLuaScript } from '../src/index.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

useRedis();

const folders = await Promise.all(
  ['packages', 'services'].map(async (group) =>
    (await readdir(path.join(ROOT, group))).map((name) => `${group}/${name}/src`),
  ),
);
const files = await Promise.all(
  folders.flat().map(async (folder) => {
    const names = await readdir(path.join(ROOT, folder), { recursive: true }).catch(() => []);
    return names.filter((name) => name.endsWith('.lua')).map((name) => `${folder}/${name}`);
  }),
);
const scripts = files.flat().sort();

/** The error of Redis for a text that is no Lua; null: it compiles. */
async function syntaxError(lua: string): Promise<string | null> {
  return await redis.script('LOAD', lua).then(
    () => null,
    (error: Error) => error.message,
  );
}

test('there are scripts, with what they include', () => {
  expect(scripts).toContain('packages/queue/src/jobs/create-job.lua');
  expect(scripts).toContain('packages/queue/src/jobs/includes/job.lua');
});

describe.each(scripts)('%s', (file) => {
  test('compiles, alone and with what it includes', async () => {
    expect(await syntaxError(await readFile(path.join(ROOT, file), 'utf8'))).toBeNull();
    expect(await syntaxError(readLuaScript(pathToFileURL(path.join(ROOT, file))).lua)).toBeNull();
  });

  test('says in its first line what it does', async () => {
    expect(await readFile(path.join(ROOT, file), 'utf8')).toMatch(/^--- [A-Z]/);
  });
});

test('what is no Lua is found', async () => {
  expect(await syntaxError('local = 1')).toMatch(/Error compiling script/);
});

test('every include is read once, and names of keys and arguments are declared in their order', () => {
  const { keys, args, lua } = readLuaScript(new URL('../src/jobs/update-job.lua', import.meta.url));
  expect(lua.match(/^local function server_time_ms/gm)).toHaveLength(1);
  expect(lua).toContain(`local ${keys[0]} = KEYS[1]\n`);
  expect(lua).toContain(`local ${args.at(-1)} = ARGV[${args.length}]\n`);
  expect(new Set([...keys, ...args]).size).toBe(keys.length + args.length);
});
