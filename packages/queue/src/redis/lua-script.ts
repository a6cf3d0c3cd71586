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
  args: Readonly<Record<string, string | number | Buffer>>,
  rest?: readonly (string | number)[],
  restKeys?: readonly string[],
) => Promise<unknown>;

const KEYS = /^--- @keys (.+)$/gm;
const ARGUMENTS = /^--- @args (.+)$/gm;
const INCLUDE = /^--- @include "(.+)"$/gm;
/** The folder `src` of this package. */
const SOURCES = new URL('..', sourceOf(import.meta.url));

/**
 * Loads a script from a `.lua` file, once, when its module is loaded. A file has the scripts of one store, each a local function below a
 * line `--- @script`; what stands before the first of them is part of each. Comments say what a script needs:
 *
 * - `--- @keys one two` and `--- @args one two`: names of keys and arguments, each a local of the script.
 * - `--- @include "name"`: what `name.lua` has before its first script stands here, with its keys and arguments; once, however often it is
 *   included. It is relative to this file; `~/` stands for the sources of this package.
 *
 * @param module - The `import.meta.url` of the module that runs the script, in whose folder the file is.
 * @throws Error if the file has no script of this name
 */
export function luaScript(module: string, file: string, name: string): LuaScript {
  const { keys: keyNames, args: argumentNames, lua } = readLuaScript(new URL(file, sourceOf(module)), name);
  const digest = createHash('sha1').update(lua).digest('hex');
  return async (redis, keys, args, rest = [], restKeys = []) => {
    const valuesOf = <Value>(names: readonly string[], values: Readonly<Record<string, Value>>) =>
      names.map((needed) => {
        const value = values[needed];
        if (value === undefined) throw new Error(`The script ${name} was run without a value for ${needed}.`);
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

/**
 * Reads a script of a `.lua` file with what it includes, and declares its keys and arguments.
 *
 * @throws Error if the file has no script of this name
 */
export function readLuaScript(file: URL, name: string): ReadLuaScript {
  const { common, scripts } = partsOf(file);
  const script = scripts.get(name);
  if (script === undefined)
    throw new Error(`${file.pathname} has no script ${name}, but ${[...scripts.keys()].join(', ')}.`);
  const text = withIncludes(common + script, file, new Set([file.href]));
  const keys = namesIn(text, KEYS);
  const args = namesIn(text, ARGUMENTS);
  const locals = [
    ...keys.map((key, i) => `local ${key} = KEYS[${i + 1}]`),
    ...args.map((arg, i) => `local ${arg} = ARGV[${i + 1}]`),
    `local rest = {unpack(ARGV, ${args.length + 1})}`,
    `local rest_keys = {unpack(KEYS, ${keys.length + 1})}`,
  ];
  return { keys, args, lua: [...locals, text, `return ${name}()`].join('\n') };
}

/** The names of the scripts of a `.lua` file. */
export function luaScriptNames(file: URL): string[] {
  return [...partsOf(file).scripts.keys()];
}

function partsOf(file: URL) {
  const [common = '', ...parts] = readFileSync(file, 'utf8').split(/^--- @script\n/m);
  const scripts = new Map<string, string>();
  for (const part of parts) {
    const name = /^local function (\w+)\(\)$/m.exec(part)?.[1];
    if (name === undefined) throw new Error(`A script of ${file.pathname} is no local function without parameters.`);
    if (scripts.has(name)) throw new Error(`${file.pathname} has two scripts ${name}.`);
    scripts.set(name, part);
  }
  return { common, scripts };
}

function withIncludes(text: string, file: URL, included: Set<string>): string {
  return text.replace(INCLUDE, (_, name: string) => {
    const other = name.startsWith('~/') ? new URL(`${name.slice(2)}.lua`, SOURCES) : new URL(`${name}.lua`, file);
    if (included.has(other.href)) return '';
    included.add(other.href);
    return withIncludes(partsOf(other).common, other, included);
  });
}

function namesIn(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].flatMap(([, names = '']) => names.split(' ')))];
}

/** The source of a module. The compiler copies no `.lua` file, so compiled code reads those of the sources. */
function sourceOf(module: string): string {
  return module.endsWith('.ts') ? module : module.replace(/^(.*)\/dist\//, '$1/src/');
}
