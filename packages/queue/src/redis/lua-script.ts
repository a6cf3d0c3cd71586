import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';

/**
 * Runs a script, atomically, with its keys and arguments by name. `rest` and `restKeys` are the tables `rest` and `rest_keys` in the script.
 *
 * @throws Error if a name that the script lists has no value
 */
export type LuaScript = (
  redis: Redis,
  keys: Readonly<Record<string, string>>,
  args: Readonly<Record<string, string | number>>,
  rest?: readonly (string | number)[],
  restKeys?: readonly string[],
) => Promise<unknown>;

const KEYS = /^--- @keys (.+)$/gm;
const ARGUMENTS = /^--- @args (.+)$/gm;
const INCLUDE = /^--- @include "(.+)"$/gm;
/** The folder `src` of this package. */
const SOURCES = new URL('..', sourceOf(import.meta.url));

/**
 * Loads a script from a `.lua` file, once, when its module is loaded. Comments of the file say what it needs:
 *
 * - `--- @keys one two` and `--- @args one two`: names of keys and arguments, each a local of the script.
 * - `--- @include "name"`: the file `name.lua` stands here with its keys and arguments; once, however often it is included. It is relative to
 *   this file; `~/` stands for the sources of this package.
 *
 * @param module - The `import.meta.url` of the module that runs the script, in whose folder the file is.
 */
export function luaScript(module: string, file: string): LuaScript {
  const { keys: keyNames, args: argumentNames, lua } = readLuaScript(new URL(file, sourceOf(module)));
  const digest = createHash('sha1').update(lua).digest('hex');
  return async (redis, keys, args, rest = [], restKeys = []) => {
    const valuesOf = <Value>(names: readonly string[], values: Readonly<Record<string, Value>>) =>
      names.map((name) => {
        const value = values[name];
        if (value === undefined) throw new Error(`The script ${file} was run without a value for ${name}.`);
        return value;
      });
    const allKeys = [...valuesOf(keyNames, keys), ...restKeys];
    const allArguments = [...valuesOf(argumentNames, args), ...rest];
    // Redis gets the text only if it does not have the script yet.
    try {
      return await redis.evalsha(digest, allKeys.length, ...allKeys, ...allArguments);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
      return await redis.eval(lua, allKeys.length, ...allKeys, ...allArguments);
    }
  };
}

/** A script as Redis gets it, with the names of its keys and arguments in their order. */
export interface ReadLuaScript {
  keys: readonly string[];
  args: readonly string[];
  lua: string;
}

/** Reads a `.lua` file with what it includes, and declares its keys and arguments. */
export function readLuaScript(file: URL): ReadLuaScript {
  const text = withIncludes(file, new Set());
  const keys = namesIn(text, KEYS);
  const args = namesIn(text, ARGUMENTS);
  const locals = [
    ...keys.map((name, i) => `local ${name} = KEYS[${i + 1}]`),
    ...args.map((name, i) => `local ${name} = ARGV[${i + 1}]`),
    `local rest = {unpack(ARGV, ${args.length + 1})}`,
    `local rest_keys = {unpack(KEYS, ${keys.length + 1})}`,
  ];
  return { keys, args, lua: [...locals, text].join('\n') };
}

function withIncludes(file: URL, included: Set<string>): string {
  if (included.has(file.href)) return '';
  included.add(file.href);
  const text = readFileSync(file, 'utf8');
  return text.replace(INCLUDE, (_, name: string) =>
    withIncludes(
      name.startsWith('~/') ? new URL(`${name.slice(2)}.lua`, SOURCES) : new URL(`${name}.lua`, file),
      included,
    ),
  );
}

function namesIn(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].flatMap(([, names = '']) => names.split(' ')))];
}

/** The source of a module. The compiler copies no `.lua` file, so compiled code reads those of the sources. */
function sourceOf(module: string): string {
  return module.endsWith('.ts') ? module : module.replace(/^(.*)\/dist\//, '$1/src/');
}
