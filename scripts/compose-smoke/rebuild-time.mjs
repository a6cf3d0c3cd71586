import { appendFile, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';
import { docker } from './docker.mjs';

/** Relative to the repository: what git does not keep, which may be large. */
const NOT_COPIED = /(^|\/)(node_modules|dist)$|^(\.git|data|models)$/;
const LIMIT_SECONDS = 30;

/**
 * Builds each image again after a change of one source file that all of them hold, from a copy of the repository.
 *
 * @param {string[]} targets of the Dockerfile
 * @param {AbortSignal} signal
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when one takes longer than it may
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
        throw new Error(`${target} was built again in ${seconds} s, more than ${LIMIT_SECONDS}`);
      times.push(`${target} ${seconds.toFixed(1)} s`);
    }
    return times.join(', ');
  } finally {
    await docker(['image', 'rm', '--force', ...targets.map(tagOf)], { expectFailure: true });
    await rm(copy, { recursive: true, force: true });
  }
}
