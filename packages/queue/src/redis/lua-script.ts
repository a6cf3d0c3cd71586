import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';

/** A Lua script. Redis runs it atomically. */
export type RedisScript = (
  redis: Redis,
  keys: readonly string[],
  args: readonly (string | number)[],
) => Promise<unknown>;

/** Sends the digest of the script, and its text only if the server does not have it yet. */
export function redisScript(lua: string): RedisScript {
  const digest = createHash('sha1').update(lua).digest('hex');
  return async (redis, keys, args) => {
    try {
      return await redis.evalsha(digest, keys.length, ...keys, ...args);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
      return await redis.eval(lua, keys.length, ...keys, ...args);
    }
  };
}

/** Lua code with the names of its keys and arguments. Each is a local of this name in the code. */
export interface LuaSource<Key extends string = string, Argument extends string = string> {
  keys: readonly Key[];
  arguments: readonly Argument[];
  lua: string;
}

/** A script that receives its keys and arguments by name. `rest` and `restKeys` are the tables `rest` and `rest_keys` in the script. */
export type LuaScript<Key extends string, Argument extends string> = (
  redis: Redis,
  keys: Readonly<Record<Key, string>>,
  args: Readonly<Record<Argument, string | number>>,
  rest?: readonly (string | number)[],
  restKeys?: readonly string[],
) => Promise<unknown>;

const NO_PART: LuaSource<never, never> = { keys: [], arguments: [], lua: '' };

/** The local `now_ms`: the time of the Redis server, for hosts may disagree about theirs. */
export const SERVER_TIME: LuaSource<never, never> = {
  keys: [],
  arguments: [],
  lua: /* lua */ `
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
`,
};

/**
 * Builds a script from its source, which alone lists its keys and arguments.
 *
 * @param included - Functions that the script uses. Their keys and arguments are added to its own. @defaultValue none
 */
export function luaScript<
  const Key extends string,
  const Argument extends string,
  PartKey extends string = never,
  PartArgument extends string = never,
>(
  source: LuaSource<Key, Argument>,
  included: LuaSource<PartKey, PartArgument> = NO_PART,
): LuaScript<Key | PartKey, Argument | PartArgument> {
  const keyNames = [...included.keys, ...source.keys];
  const argumentNames = [...included.arguments, ...source.arguments];
  const names = [
    ...keyNames.map((name, i) => `local ${name} = KEYS[${i + 1}]`),
    ...argumentNames.map((name, i) => `local ${name} = ARGV[${i + 1}]`),
    `local rest = {unpack(ARGV, ${argumentNames.length + 1})}`,
    `local rest_keys = {unpack(KEYS, ${keyNames.length + 1})}`,
  ];
  const script = redisScript([...names, included.lua, source.lua].join('\n'));
  return (redis, keys, args, rest = [], restKeys = []) =>
    script(
      redis,
      [...keyNames.map((name) => keys[name]), ...restKeys],
      [...argumentNames.map((name) => args[name]), ...rest],
    );
}
