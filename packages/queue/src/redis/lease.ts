import { luaScript } from './lua-script.js';

// A lease is a key that expires, and whose value is the token of the process that holds it.

/** Lengthens a lease. Returns 0 if its holder has lost it. */
export const renewLeaseScript = luaScript({
  keys: ['lease'],
  arguments: ['token', 'lease_ms'],
  lua: /* lua */ `
if redis.call('GET', lease) == token then return redis.call('PEXPIRE', lease, lease_ms) end
return 0
`,
});

/** Ends a lease, unless its holder has lost it. */
export const endLeaseScript = luaScript({
  keys: ['lease'],
  arguments: ['token'],
  lua: /* lua */ `
if redis.call('GET', lease) == token then redis.call('DEL', lease) end
return 1
`,
});
