import { luaScript } from '../redis/lua-script.js';

export const wantSweepScript = luaScript(import.meta.url, './want-sweep.lua');

export const settleSweepScript = luaScript(import.meta.url, './settle-sweep.lua');

export const decideSweepScript = luaScript(import.meta.url, './decide-sweep.lua');

export const deleteSweepScript = luaScript(import.meta.url, './delete-sweep.lua');
