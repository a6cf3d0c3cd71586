import { execFileSync } from 'node:child_process';
import { access } from 'node:fs/promises';
import path from 'node:path';
import { toolEnvironment } from './locations.mjs';
import { publishFolder } from './publish-folder.mjs';
import { findOnPath } from './redis-server.mjs';
import { runCommand } from './run-command.mjs';
import { SetupError } from './run-steps.mjs';

/**
 * A program that is compiled once from a fixed version of its Go module.
 *
 * @typedef {object} GoProgram
 * @property {string} name of the program
 * @property {string} modulePackage the argument of `go install`, without the version
 * @property {string} version
 * @property {[number, number]} goVersion the oldest Go that compiles it
 * @property {NodeJS.ProcessEnv} [settings] variables of the compiler; by default without C
 */

/**
 * The program in the cache, compiled first where it is not there.
 *
 * @param {GoProgram} program
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<{ file: string, origin: string }>}
 * @throws {SetupError} when Go is missing, or the program does not compile
 */
export async function findGoProgram(program, { cache, env, progress }) {
  const { name, modulePackage, version, goVersion, settings = { CGO_ENABLED: '0' } } = program;
  const folder = path.join(cache, 'go', `${name}-${version}`);
  const file = path.join(folder, name);
  const fresh = await publishFolder(folder, async (partial) => {
    const go = findGo(goVersion, env);
    await runCommand(go, ['install', `${modulePackage}@${version}`], {
      env: { ...toolEnvironment(env), GOBIN: partial, ...settings },
      onTick: (seconds) => progress.update(`compiling ${name} ${version}, ${seconds} s`),
      remedy: `make sure that Go can fetch modules (try: go install ${modulePackage}@${version}).`,
    });
    await access(path.join(partial, name));
  });
  return { file, origin: `${name} ${version}, ${fresh ? 'compiled' : 'in the cache'}` };
}

/** @param {[number, number]} atLeast @param {NodeJS.ProcessEnv} env */
function findGo(atLeast, env) {
  const wanted = `Go ${atLeast.join('.')} or later`;
  const go = findOnPath('go', env.PATH ?? '') ?? findOnPath('go', '/usr/local/go/bin');
  if (go === undefined) throw new SetupError('Go was not found on the PATH', `install ${wanted}.`);
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(execFileSync(go, ['version'], { encoding: 'utf8' })) ?? [];
  const isOlder = Number(major) < atLeast[0] || (Number(major) === atLeast[0] && Number(minor) < atLeast[1]);
  if (isOlder) throw new SetupError(`${go} is Go ${major}.${minor}`, `install ${wanted}.`);
  return go;
}
