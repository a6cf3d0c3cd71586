import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { redis, useRedis } from '../../../test/use-redis.js';
import { luaScriptNames, readLuaScript } from '../src/index.js';

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
const sources = files.flat().sort();
const urlOf = (file: string) => pathToFileURL(path.join(ROOT, file));

/** The error of Redis for a text that is no Lua; null: it compiles. */
async function syntaxError(lua: string): Promise<string | null> {
  return await redis.script('LOAD', lua).then(
    () => null,
    (error: Error) => error.message,
  );
}

test('there are scripts, with what they include', () => {
  expect(sources).toContain('packages/queue/src/jobs/jobs.lua');
  expect(sources).toContain('packages/queue/src/jobs/includes/job.lua');
});

describe.each(sources)('%s', (file) => {
  test('compiles', async () => {
    expect(await syntaxError(await readFile(path.join(ROOT, file), 'utf8'))).toBeNull();
  });

  test('each of its scripts compiles with what it includes', async () => {
    for (const name of luaScriptNames(urlOf(file))) {
      expect(await syntaxError(readLuaScript(urlOf(file), name).lua), name).toBeNull();
    }
  });

  test('says what it has, and what each of its scripts does', async () => {
    const text = await readFile(path.join(ROOT, file), 'utf8');
    expect(text).toMatch(/^--- [A-Z]/);
    expect(text.match(/^--- @script$/gm) ?? []).toHaveLength((text.match(/^--- @script\n--- [A-Z]/gm) ?? []).length);
  });
});

test('what is no Lua is found', async () => {
  expect(await syntaxError('local = 1')).toMatch(/Error compiling script/);
});

test('every include is read once, and names of keys and arguments are declared in their order', () => {
  const { keys, args, lua } = readLuaScript(urlOf('packages/queue/src/jobs/jobs.lua'), 'update_job');
  expect(lua.match(/^local function server_time_ms/gm)).toHaveLength(1);
  expect(lua).toContain(`local ${keys[0]} = KEYS[1]\n`);
  expect(lua).toContain(`local ${args.at(-1)} = ARGV[${args.length}]\n`);
  expect(new Set([...keys, ...args]).size).toBe(keys.length + args.length);
});

test('a script that a file does not have, or has twice, is refused', async () => {
  expect(() => readLuaScript(urlOf('packages/queue/test/write.lua'), 'read_key')).toThrow(
    /write\.lua has no script read_key, but write_key\.$/,
  );
  const file = path.join(await mkdtemp(path.join(tmpdir(), 'lorasmith-lua-')), 'twice.lua');
  const script = '--- @script\n--- Nothing.\nlocal function none()\nend\n';
  await writeFile(file, script + script);
  expect(() => luaScriptNames(pathToFileURL(file))).toThrow(/has two scripts none\.$/);
  await writeFile(file, '--- @script\nreturn 1\n');
  expect(() => luaScriptNames(pathToFileURL(file))).toThrow(/is no local function without parameters\.$/);
  await rm(path.dirname(file), { recursive: true });
});
