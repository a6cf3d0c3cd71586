import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { cacheDir, toolEnvironment } from '../../../scripts/setup/locations.mjs';
import { publishFolder } from '../../../scripts/setup/publish-folder.mjs';
import { runCommand } from '../../../scripts/setup/run-command.mjs';

/** A release of each version of Node that the product supports. */
export const NODE_RELEASES = ['20.20.2', '22.23.3', '24.21.0', '26.12.1'];

/** The folder with the program `node` of a release, which comes from npm. @param {string} release @param {NodeJS.ProcessEnv} env */
export async function nodeFolder(release, env) {
  const name = `node-linux-${process.arch}`;
  const folder = path.join(cacheDir(env), `node-${release}`);
  await publishFolder(folder, async (partial) => {
    await writeFile(path.join(partial, 'package.json'), JSON.stringify({ private: true }));
    await runCommand('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${release}`], {
      cwd: partial,
      env: toolEnvironment(env),
    });
  });
  return path.join(folder, 'node_modules', name, 'bin');
}
