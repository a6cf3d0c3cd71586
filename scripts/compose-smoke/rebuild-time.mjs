import { appendFile, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';
import { docker } from './docker.mjs';

/** Folders that are not in git and may be large, relative to the repository. */
const NOT_COPIED = /(^|\/)(node_modules|dist)$|^(\.git|data|models)$/;
const LIMIT_SECONDS = 30;

/**
 * Rebuilds each image in a copy of the repository, after a change of one source file that all images contain.
 *
 * @param {string[]} targets of the Dockerfile
 * @param {AbortSignal} signal
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when one exceeds the time limit
 */
export async function checkRebuildTime(targets, signal) {
  const copy = await mkdtemp(path.join(tmpdir(), 'lorasmith-source-'));
  const tagOf = (/** @type {string} */ target) => `lorasmith-rebuild-${target}:${process.pid}`;
  try {
    await cp(ROOT_DIR, copy, { recursive: true, filter: (file) => !NOT_COPIED.test(path.relative(ROOT_DIR, file)) });
    await appendFile(
      path.join(copy, 'packages/contracts/src/index.ts'),
      `\nexport const CHANGED_AT = ${Date.now()};\n`,
    );
    const times = [];
    for (const target of targets) {
      const startedAt = Date.now();
      const args = ['build', '--quiet', '--file', 'docker/Dockerfile', '--target', target, '--tag', tagOf(target), '.'];
      await docker(args, { cwd: copy, env: { ...process.env, DOCKER_BUILDKIT: '1' }, signal });
      const seconds = (Date.now() - startedAt) / 1000;
      if (seconds > LIMIT_SECONDS)
        throw new Error(`the rebuild of ${target} took ${seconds} s; the limit is ${LIMIT_SECONDS} s`);
      times.push(`${target} ${seconds.toFixed(1)} s`);
    }
    return times.join(', ');
  } finally {
    await docker(['image', 'rm', '--force', ...targets.map(tagOf)], { expectFailure: true });
    await rm(copy, { recursive: true, force: true });
  }
}
