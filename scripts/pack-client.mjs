// npm run pack-client: makes lorasmith-client-VERSION.tgz, which "npm install" takes anywhere, in the user's current folder.
import path from 'node:path';
import { packClient } from './client-package/pack-client.mjs';
import { runAsCommand, setUp } from './setup.mjs';

await runAsCommand(async () => {
  await setUp({ redis: false, demoModel: false });
  // npm runs scripts in the repository's root.
  const folder = process.env.INIT_CWD ?? process.cwd();
  const file = await packClient(folder);
  process.stdout.write(`${path.join(folder, file)}\n`);
  return 0;
});
