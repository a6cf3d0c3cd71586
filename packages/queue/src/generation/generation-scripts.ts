import { luaScript } from '../redis/lua-script.js';

export const submitScript = luaScript(import.meta.url, './submit-request.lua');

export const claimScript = luaScript(import.meta.url, './claim-request.lua');

export const beginScript = luaScript(import.meta.url, './begin-answer.lua');

export const giveBackScript = luaScript(import.meta.url, './give-back-request.lua');

export const pushScript = luaScript(import.meta.url, './push-pieces.lua');

export const readScript = luaScript(import.meta.url, './read-pieces.lua');

export const leaveScript = luaScript(import.meta.url, './leave-request.lua');
