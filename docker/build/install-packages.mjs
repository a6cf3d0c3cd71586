// node install-packages.mjs [SERVICE]: installs all packages of the lockfile, or only what SERVICE needs to run.
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { pinnedPnpm } from '../../scripts/setup/pnpm-package.mjs';
import { runCommand } from '../../scripts/setup/run-command.mjs';

const [service] = process.argv.slice(2);
const { env } = process;
const progress = { update: (/** @type {string} */ text) => console.log(text) };
const pnpm = await pinnedPnpm({ cache: cacheDir(env), env, progress });
const only = service ? ['--prod', '--filter-prod', `@lorasmith/${service}...`] : [];
await runCommand(process.execPath, [pnpm, 'install', '--frozen-lockfile', '--reporter=append-only', ...only], {
  env,
  passThrough: true,
});
