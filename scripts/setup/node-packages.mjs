import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { packageFolders, ROOT_DIR, toolEnvironment } from './locations.mjs';
import { pinnedPnpm } from './pnpm-package.mjs';
import { runCommand } from './run-command.mjs';

const STAMP_FILE = path.join(ROOT_DIR, 'node_modules/.lorasmith-install');

/** @returns {boolean} true if set-up has installed the Node packages of this clone before */
export function isSetUp() {
  return existsSync(STAMP_FILE);
}

/**
 * Installs the packages of the lockfile with the pinned pnpm and joins typebox's modules, unless the last install was of the
 * same lockfile and manifests. Install scripts run only for the packages that pnpm-workspace.yaml names; tfjs's is not
 * among them.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./run-steps.mjs').SetupError}
 */
export async function installNodePackages({ cache, env, progress }) {
  const folders = ['.', ...packageFolders()];
  const wanted = await stampOf(folders);
  const installed = existsSync(STAMP_FILE) ? await readFile(STAMP_FILE, 'utf8') : '';
  if (installed === wanted && (await haveTheirPackages(folders))) return 'up to date';

  await rm(STAMP_FILE, { force: true });
  const pnpm = await pinnedPnpm({ cache, env, progress });
  progress.update('installing, about 30 s');
  await runCommand(
    process.execPath,
    // Without a terminal pnpm would stop and ask before it replaces a node_modules that another pnpm made.
    [pnpm, 'install', '--frozen-lockfile', '--config.confirmModulesPurge=false', '--reporter=append-only'],
    {
      cwd: ROOT_DIR,
      // CI: pnpm would otherwise ask questions when it has a terminal.
      env: { ...toolEnvironment(env), CI: 'true' },
      onTick: (seconds) => progress.update(`installing, ${seconds} s`),
      remedy:
        'if the lockfile does not match, restore pnpm-lock.yaml and the package.json files. If a download failed, make sure that npm can download; behind a proxy or mirror, set npm up for it. Then run the same command again.',
    },
  );
  await joinTypebox();
  await writeFile(STAMP_FILE, wanted);
  return 'installed from the lockfile';
}

/** A digest of all that decides what is installed. @param {string[]} folders with a manifest, from the root */
async function stampOf(folders) {
  const files = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'scripts/setup/node-packages.mjs'];
  files.push(...folders.map((folder) => path.join(folder, 'package.json')));
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${file}\n`).update(await readFile(path.join(ROOT_DIR, file)));
  return hash.digest('hex');
}

/** True if each workspace package that has dependencies still has its folder of links. @param {string[]} folders */
async function haveTheirPackages(folders) {
  for (const folder of folders) {
    const { dependencies = {} } = JSON.parse(await readFile(path.join(ROOT_DIR, folder, 'package.json'), 'utf8'));
    for (const name of Object.keys(dependencies)) {
      if (!existsSync(path.join(ROOT_DIR, folder, 'node_modules', name))) return false;
    }
  }
  return true;
}

/** One of the folders that link to typebox, which is installed once. */
const TYPEBOX = path.join(ROOT_DIR, 'packages/contracts/node_modules/typebox');
const SHARED = 'build/joined';

/**
 * Joins the 709 modules of typebox into a few. Every process of ours loads it, and Node takes 0.3 s of processor time to
 * load that many modules. Each file that the package exports is replaced by one that exports the same; its types stay.
 * A set-up that dies meanwhile leaves a package that works.
 */
async function joinTypebox() {
  const { rolldown } = await import('rolldown');
  const folder = await realpath(TYPEBOX);
  const { exports } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
  /** @type {string[]} */
  const files = Object.values(exports).map((entry) => path.normalize(entry.import));
  const partial = await mkdtemp(path.join(folder, '.joined-'));
  try {
    const joined = await rolldown({
      input: Object.fromEntries(files.map((file) => [file, path.join(folder, file)])),
      platform: 'node',
    });
    // The names of shared modules contain a hash of their content: files of two builds never mix.
    await joined.write({ dir: partial, entryFileNames: '[name]', chunkFileNames: `${SHARED}/[name]-[hash].mjs` });
    await mkdir(path.join(folder, SHARED), { recursive: true });
    const shared = await readdir(path.join(partial, SHARED));
    // First what the others import.
    for (const file of [...shared.map((name) => path.join(SHARED, name)), ...files]) {
      await rename(path.join(partial, file), path.join(folder, file));
    }
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}
