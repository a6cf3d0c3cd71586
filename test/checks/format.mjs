// Checks the formats that Biome does not: that of the C++ in packages/*/native, and that JSON that programs write has no more lines than with
// an entry a line. With --write, formats both. node test/checks/format.mjs [native] [json] [--write]: default, both.
import { execFile } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { compactJsonText } from '../../scripts/docs/compact-json.mjs';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { CLANG_FORMAT_WHEELS } from '../../scripts/setup/pinned-wheels.mjs';
import { runCommand } from '../../scripts/setup/run-command.mjs';
import { describeFailure, SetupError } from '../../scripts/setup/run-steps.mjs';
import { unpackWheel } from '../../scripts/setup/unpack-wheel.mjs';

/**
 * The command that checks the format of all C++ and CUDA C++.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<{ program: string, args: string[] }>}
 * @throws {SetupError}
 */
export async function formatCheckOfNative(env) {
  const wheel = CLANG_FORMAT_WHEELS[process.arch];
  if (!wheel) {
    throw new SetupError(`there is no pinned clang-format for ${process.arch}`, 'use a machine with x64 or arm64.');
  }
  const { folder } = await unpackWheel(wheel, { cache: cacheDir(env), env, progress: { update() {} } });
  const program = path.join(folder, /** @type {string} */ (wheel.members[0]));
  return { program, args: ['--dry-run', '--Werror', ...(await sources())] };
}

/** @returns {Promise<string[]>} of C++ and CUDA C++, relative to the root */
async function sources() {
  const found = [];
  for (const folder of ['packages/tensor/native', 'packages/weight-files/native']) {
    const names = await readdir(path.join(ROOT_DIR, folder), { recursive: true });
    const ours = names.filter((name) => /\.(cc|h|cu|cuh)$/.test(name) && !name.startsWith('build'));
    found.push(...ours.sort().map((name) => `${folder}/${name}`));
  }
  return found;
}

/** Fixtures, and what biome.json leaves out of its own format. */
const WRITTEN = ['*fixtures/*.json', 'openapi/*.json', 'docker/*.json', 'test/emulated/*.json'];

/**
 * The files with more lines, each of which it replaces if asked to.
 *
 * @param {{ write: boolean }} options
 * @returns {Promise<string[]>} relative to the root
 */
async function longerFiles({ write }) {
  const { stdout } = await promisify(execFile)('git', ['ls-files', '-z', '--', ...WRITTEN], { cwd: ROOT_DIR });
  /** @type {string[]} */
  const found = [];
  for (const name of stdout.split('\0').filter(Boolean)) {
    const file = path.join(ROOT_DIR, name);
    const text = await readFile(file, 'utf8');
    const formatted = `${compactJsonText(text)}\n`;
    if (linesOf(formatted) >= linesOf(text)) continue;
    found.push(name);
    if (write) await writeFile(file, formatted);
  }
  return found;
}

/** @param {string} text */
function linesOf(text) {
  return text.trimEnd().split('\n').length;
}

/** @param {boolean} write @returns {Promise<boolean>} whether the format is right, or was made so */
async function formatNative(write) {
  try {
    const { program, args } = await formatCheckOfNative(process.env);
    const formatting = write ? ['-i', ...args.slice(2)] : args;
    await runCommand(program, formatting, { cwd: ROOT_DIR, remedy: 'run `npm run format`.' });
    return true;
  } catch (error) {
    console.error(describeFailure(error));
    return false;
  }
}

/** @param {boolean} write @returns {Promise<boolean>} whether the format is right, or was made so */
async function formatJson(write) {
  const found = await longerFiles({ write });
  for (const name of found) {
    console.log(`${write ? 'formatted' : 'longer than in the format of `npm run format`'}: ${name}`);
  }
  return write || found.length === 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const args = process.argv.slice(2);
  const write = args.includes('--write');
  const named = args.filter((argument) => argument !== '--write');
  const formats = { native: formatNative, json: formatJson };
  const unknown = named.filter((name) => !Object.hasOwn(formats, name));
  if (unknown.length > 0) {
    console.error(`There is no format ${unknown.join(', ')}. The formats are ${Object.keys(formats).join(', ')}.`);
    process.exit(2);
  }
  for (const [name, format] of Object.entries(formats)) {
    if ((named.length === 0 || named.includes(name)) && !(await format(write))) process.exitCode = 1;
  }
}
