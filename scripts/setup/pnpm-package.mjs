import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR, toolEnvironment } from './locations.mjs';
import { publishFolder } from './publish-folder.mjs';
import { runCommand } from './run-command.mjs';
import { SetupError } from './run-steps.mjs';

/** The digest of the pnpm that package.json's `packageManager` names. Change both together. */
const PNPM_INTEGRITY =
  'sha512-9JtajqD97bRLs8DB1ldQkqU8KVDZW3rRXfEfF5dId6LeOgHAfpNOmyjOcW5RwJqUlixzBtCb4uHksYqMh2L9Mg==';

/**
 * Downloads the pinned pnpm into the cache once, with npm. A pnpm of the machine is not used, since its version may differ.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} the script to run with Node
 * @throws {SetupError} when npm cannot get it or its content is not the pinned one
 */
export async function pinnedPnpm({ cache, env, progress }) {
  const version = pinnedPnpmVersion();
  const folder = path.join(cache, `pnpm-${version}`);
  await publishFolder(folder, async (partial) => {
    const dependencies = { pnpm: version };
    await writeFile(path.join(partial, 'package.json'), JSON.stringify({ private: true, dependencies }));
    // A lockfile without URLs: npm uses the configured registry and refuses any other content.
    const packages = { '': { dependencies }, 'node_modules/pnpm': { version, integrity: PNPM_INTEGRITY } };
    await writeFile(path.join(partial, 'package-lock.json'), JSON.stringify({ lockfileVersion: 3, packages }));
    await runCommand('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: partial,
      env: toolEnvironment(env),
      onTick: (seconds) => progress.update(`downloading pnpm ${version}, ${seconds} s`),
      remedy: `make sure that npm can download (try: npm view pnpm@${version}); behind a proxy or mirror, set npm up for it. Then run the same command again.`,
    });
  });
  return path.join(folder, 'node_modules/pnpm/bin/pnpm.cjs');
}

function pinnedPnpmVersion() {
  const { packageManager } = JSON.parse(readFileSync(path.join(ROOT_DIR, 'package.json'), 'utf8'));
  const version = /^pnpm@(\d+\.\d+\.\d+)$/.exec(packageManager)?.[1];
  if (!version) {
    throw new SetupError(
      `package.json's "packageManager" is ${JSON.stringify(packageManager)}, not "pnpm@" and an exact version`,
      'restore that line of package.json.',
    );
  }
  return version;
}
