// npm run keys -- create --name NAME --role ROLE | list | revoke KEY: manages the API keys of the stack of `npm start`,
// also while it is stopped.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { ROOT_DIR } from './setup/locations.mjs';
import { runAsCommand, setUp } from './setup.mjs';
import { onInterruption } from './stack/interruption.mjs';
import { withRedisOf } from './stack/redis.mjs';

await runAsCommand(async () => {
  const { redis } = await setUp({ demoModel: false });
  if (!redis) return 1;
  const dataDir = path.resolve(ROOT_DIR, process.env.DATA_DIR || 'data');
  return await withRedisOf({ dataDir, redis, env: process.env }, async (redisUrl) => {
    const program = path.join(ROOT_DIR, 'services/api/dist/keys.js');
    const child = spawn(process.execPath, [program, ...process.argv.slice(2)], {
      env: { ...process.env, REDIS_URL: redisUrl },
      // In its own process group, so that Ctrl-C reaches it once, from here.
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    onInterruption((signal) => child.kill(signal));
    const [code] = await once(child, 'exit');
    return code ?? 1;
  });
});
