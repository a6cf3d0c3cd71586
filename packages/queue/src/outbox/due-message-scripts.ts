import { luaScript } from '../redis/lua-script.js';

export const claimDueScript = luaScript(import.meta.url, './claim-due.lua');

export const postponeDueScript = luaScript(import.meta.url, './postpone-due.lua');
