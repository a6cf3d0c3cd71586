import { appendFile, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { docker } from './docker.mjs';

/** Folders that are not in git and may be large, relative to the repository. */
const NOT_COPIED = /(^|\/)(node_modules|dist)$|^(\.git|data|models)$/;
/** Steps that may run again: those that see every file, or the compiled ones. Base images are only looked up. */
const EXPECTED = /^\[(internal|manifests|compile)\b|\] FROM |\] COPY --from=compile /;

/**
 * Rebuilds each image in a copy of the repository, after a change of one source file that all images contain.
 *
 * @param {string[]} targets of the Dockerfile
 * @param {AbortSignal} signal
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when more is built again than our own code, or the change is not in an image
 */
export async function checkRebuild(targets, signal) {
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
      const what = ['--file', 'docker/Dockerfile', '--target', target, '--tag', tagOf(target)];
      const { output } = await docker(['build', '--progress', 'plain', ...what, '.'], {
        cwd: copy,
        env: { ...process.env, DOCKER_BUILDKIT: '1' },
        signal,
      });
      const steps = stepsThatRan(output);
      const unexpected = steps.filter((step) => !EXPECTED.test(step));
      if (unexpected.length > 0) throw new Error(`${target} builds again:\n${unexpected.join('\n')}`);
      if (!steps.some((step) => step.includes('COPY --from=compile')))
        throw new Error(`the change is not in ${target}:\n${output}`);
      times.push(`${target} ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
    }
    return times.join(', ');
  } finally {
    await docker(['image', 'rm', '--force', ...targets.map(tagOf)], { expectFailure: true });
    await rm(copy, { recursive: true, force: true });
  }
}

/** The steps that BuildKit did not have in its cache. @param {string} output of `docker build --progress plain` */
function stepsThatRan(output) {
  const steps = new Map();
  for (const line of output.split('\n')) {
    const [, number, rest = ''] = /^#(\d+) (.*)$/.exec(line) ?? [];
    if (rest === 'CACHED') steps.delete(number);
    else if (rest.startsWith('[') && !steps.has(number)) steps.set(number, rest);
  }
  return [...steps.values()];
}
