export { createEventNotices, type EventNotices, type Notice } from './event-notices.js';
export { type LuaScript, type LuaSource, luaScript, redisScript, SERVER_TIME } from './lua-script.js';
export { onRedis, repliesOf } from './redis-errors.js';
