// npm run pack-client: makes lorasmith-client-VERSION.tgz, which "npm install" takes anywhere, in the user's current folder.
import path from 'node:path';
import { ROOT_DIR } from './setup/locations.mjs';
import { runCommand } from './setup/run-command.mjs';
import { installPackages, runAsCommand } from './setup.mjs';

await runAsCommand(async () => {
  await installPackages();
  const compiler = path.join(ROOT_DIR, 'node_modules/typescript/bin/tsc');
  await runCommand(process.execPath, [compiler, '--build', 'packages/client'], { cwd: ROOT_DIR });
  // It imports what was just installed.
  const { packClient } = await import('./release/client-package.mjs');
  // npm runs scripts in the repository's root.
  const folder = process.env.INIT_CWD ?? process.cwd();
  const file = await packClient(folder);
  process.stdout.write(`${path.join(folder, file)}\n`);
  return 0;
});
