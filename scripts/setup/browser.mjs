import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { brotliDecompress } from 'node:zlib';
import { toolEnvironment } from './locations.mjs';
import { publishFolder } from './publish-folder.mjs';
import { findOnPath } from './redis-server.mjs';
import { runCommand } from './run-command.mjs';
import { SetupError } from './run-steps.mjs';

const decompress = promisify(brotliDecompress);
const runFile = promisify(execFile);

/** Browsers of the machine, by preference. `chromium-browser` is not among them: on Ubuntu it only installs a snap. */
const NAMES = ['chromium', 'google-chrome-stable', 'google-chrome'];

/**
 * Chromium for a machine that has none and where nobody is root: one package of the npm registry with the program, the few
 * libraries that a minimal system lacks, and a font. Change version and integrity together.
 */
const PACKAGE = {
  name: '@sparticuz/chromium',
  version: '153.0.0',
  integrity: 'sha512-jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA==',
};
const ARCHIVES = ['al2023.tar', 'fonts.tar', 'swiftshader.tar'];

const REMEDY =
  'install Chromium (on Debian: apt-get install chromium), or set CHROMIUM_FILE to the program of a Chromium or Chrome. ' +
  'Only the tests of the web page, and npm run screenshots, need it.';

/**
 * A Chromium to start.
 *
 * @typedef {object} Browser
 * @property {string} file its program
 * @property {NodeJS.ProcessEnv} env variables that it needs, in addition to those of this process
 * @property {string} origin one line for a report
 */

/**
 * The program of `CHROMIUM_FILE`, else a Chromium or Chrome on the PATH, else the pinned Chromium in the cache.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<Browser>}
 * @throws {SetupError} with what to install
 */
export async function findBrowser({ cache, env, progress }) {
  const chosen = env.CHROMIUM_FILE;
  if (chosen) {
    const version = await versionOf(chosen, env).catch((cause) => {
      throw new SetupError(`CHROMIUM_FILE does not name a browser that starts: ${cause.message}`, REMEDY, { cause });
    });
    return { file: chosen, env: {}, origin: `${version}, of CHROMIUM_FILE` };
  }
  for (const name of NAMES) {
    const file = findOnPath(name, env.PATH ?? '');
    const version = file && (await versionOf(file, env).catch(() => undefined));
    if (file && version) return { file, env: {}, origin: `${version}, ${file}` };
  }
  return await pinnedBrowser({ cache, env, progress });
}

/** @param {Parameters<typeof findBrowser>[0]} options @returns {Promise<Browser>} */
async function pinnedBrowser({ cache, env, progress }) {
  const { name, version, integrity } = PACKAGE;
  if (process.arch !== 'x64') {
    throw new SetupError(`there is no Chromium on the PATH, and no pinned one for ${process.arch}`, REMEDY);
  }
  const folder = path.join(cache, `chromium-${version}`);
  await publishFolder(folder, async (partial) => {
    const download = path.join(partial, 'download');
    await mkdir(download);
    const dependencies = { [name]: version };
    await writeFile(path.join(download, 'package.json'), JSON.stringify({ private: true, dependencies }));
    // A lockfile without URLs, as for pnpm: npm uses the configured registry and refuses any other content.
    const packages = { '': { dependencies }, [`node_modules/${name}`]: { version, integrity } };
    await writeFile(path.join(download, 'package-lock.json'), JSON.stringify({ lockfileVersion: 3, packages }));
    await runCommand('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: download,
      env: toolEnvironment(env),
      onTick: (seconds) => progress.update(`downloading Chromium ${version}, 70 MB, ${seconds} s`),
      remedy: `make sure that npm can download (try: npm view ${name}@${version}), or ${REMEDY}`,
    });
    progress.update(`unpacking Chromium ${version}`);
    const packed = path.join(download, 'node_modules', name, 'bin');
    const unpacked = async (/** @type {string} */ file) =>
      await decompress(await readFile(path.join(packed, `${file}.br`)));
    await writeFile(path.join(partial, 'chromium'), await unpacked('chromium'), { mode: 0o755 });
    for (const archive of ARCHIVES) {
      const file = path.join(download, archive);
      await writeFile(file, await unpacked(archive));
      await runCommand('tar', ['--extract', '--file', file, '--directory', partial], { env });
    }
    await writeFile(path.join(partial, 'fonts.conf'), fontSettings(folder));
    await rm(download, { recursive: true });
  });
  const file = path.join(folder, 'chromium');
  const libraries = [path.join(folder, 'lib'), env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  const own = { LD_LIBRARY_PATH: libraries, FONTCONFIG_PATH: folder };
  const found = await versionOf(file, { ...env, ...own }).catch((cause) => {
    throw new SetupError(`the pinned Chromium does not start here: ${cause.message}`, REMEDY, { cause });
  });
  return { file, env: own, origin: `${found} of ${name} ${version}` };
}

/** The font settings; those of the package name folders of another system. @param {string} folder */
function fontSettings(folder) {
  const element = (/** @type {string} */ name, /** @type {string} */ value) =>
    `<${name}>${value.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</${name}>`;
  const places = [path.join(folder, 'fonts'), '/usr/share/fonts'].map((place) => element('dir', place));
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>${places.join('')}${element('cachedir', path.join(folder, 'fonts-cache'))}</fontconfig>
`;
}

/** @param {string} file @param {NodeJS.ProcessEnv} env @returns {Promise<string>} such as `Chromium 156.0.8078.108` */
async function versionOf(file, env) {
  const { stdout } = await runFile(file, ['--version'], { env, timeout: 30_000 });
  const version = /^\S.* \d+\.\d+\.\d+\.\d+/.exec(stdout.trim())?.[0];
  if (version === undefined) throw new Error(`${file} --version answers ${JSON.stringify(stdout.slice(0, 200))}`);
  return version;
}
