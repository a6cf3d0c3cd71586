import { luaScript } from '../redis/lua-script.js';

export const askGradingScript = luaScript(import.meta.url, './ask-grading.lua');

export const readGradingScript = luaScript(import.meta.url, './read-grading.lua');

export const settleGradingScript = luaScript(import.meta.url, './settle-grading.lua');
