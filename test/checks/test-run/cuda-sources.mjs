import { git } from '../../../scripts/setup/run-command.mjs';

/** The sources that the tests on the emulated card test. */
const SOURCES = [
  'packages/tensor',
  'packages/models/src',
  'services/worker/src/device',
  'services/worker/src/self-test',
  'scripts/setup',
  'test/emulated',
  'test/checks/kernel-growth',
  'test/checks/kernel-tests',
];

/** Branches that continuous integration has tested, in the order in which they are looked for. */
const TESTED_BRANCHES = ['origin/HEAD', 'origin/main', 'main'];

/**
 * Whether sources of the CUDA engine differ from the main branch, in commits or in the working tree. A change on the main branch
 * itself is left to continuous integration, and so is a copy without git.
 *
 * @returns {Promise<boolean>}
 */
export async function cudaSourcesChanged() {
  try {
    const base = await testedCommit();
    const changed = await git('diff', '--name-only', base, '--', ...SOURCES);
    const added = await git('ls-files', '--others', '--exclude-standard', '--', ...SOURCES);
    return changed !== '' || added !== '';
  } catch {
    return false;
  }
}

/** @returns {Promise<string>} the newest commit that this branch shares with the main branch */
async function testedCommit() {
  for (const branch of TESTED_BRANCHES) {
    const base = await git('merge-base', branch, 'HEAD').catch(() => null);
    if (base !== null) return base;
  }
  return 'HEAD';
}
