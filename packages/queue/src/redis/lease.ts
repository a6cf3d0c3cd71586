import { luaScript } from './lua-script.js';

// A lease is a key that expires, and whose value is the token of the process that holds it.

export const renewLeaseScript = luaScript(import.meta.url, './renew-lease.lua');

export const endLeaseScript = luaScript(import.meta.url, './end-lease.lua');
