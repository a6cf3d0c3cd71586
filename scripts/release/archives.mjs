import { execFile } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { create } from 'tar';
import { git } from '../setup/run-command.mjs';
import { SetupError } from '../setup/run-steps.mjs';

/**
 * The commit that a release is built from.
 *
 * @typedef {object} Source
 * @property {string} commit its id, 40 hexadecimal digits
 * @property {number} epochSeconds when it was made: the time of every file of the release (SOURCE_DATE_EPOCH)
 */

/**
 * @param {string} repository
 * @returns {Promise<Source>} its HEAD
 * @throws {SetupError} when files differ from it, or there is no git
 */
export async function cleanCommit(repository) {
  const changes = await git('-C', repository, 'status', '--porcelain').catch((cause) => {
    throw new SetupError('a release is built from a commit, and git finds none here', 'run it in a clone.', { cause });
  });
  if (changes !== '') {
    throw new SetupError(
      `the working tree has what no commit has:\n${changes}`,
      'commit these files, or remove them: a release has what its commit says.',
    );
  }
  const [commit = '', epochSeconds] = (await git('-C', repository, 'show', '-s', '--format=%H %ct')).split(' ');
  return { commit, epochSeconds: Number(epochSeconds) };
}

/**
 * Writes the files of the commit into a folder, all of one time, and with the same rights on every machine.
 *
 * @param {string} repository @param {string} commit @param {string} folder does not exist yet
 */
export async function extractSource(repository, commit, folder) {
  const archive = `${folder}.tar`;
  await writeSourceTar(repository, commit, archive);
  await mkdir(folder);
  await promisify(execFile)('tar', ['-xf', archive, '--no-same-owner', '-C', folder, '--strip-components=1']);
  await rm(archive);
}

/**
 * Writes a tar of the commit's files, under a folder.
 *
 * @param {string} repository @param {string} commit @param {string} file to write @param {string} [folder]
 */
export async function writeSourceTar(repository, commit, file, folder = 'source') {
  const options = ['--format=tar', `--prefix=${folder}/`, `--output=${path.resolve(file)}`];
  await git('-C', repository, '-c', 'tar.umask=0022', 'archive', ...options, commit);
}

/**
 * Packs a folder as .tar.gz, so that the same files give the same bytes: sorted by name, of one time, without owners. What links point to is
 * packed in their place.
 *
 * @param {string} folder its own name is the first part of every name in the archive
 * @param {string} file to write
 * @param {number} epochSeconds the time of every file
 */
export async function packFolder(folder, file, epochSeconds) {
  const parent = path.dirname(folder);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(parent, path.join(entry.parentPath, entry.name)))
    .sort();
  const mtime = new Date(epochSeconds * 1000);
  await create({ file, cwd: parent, gzip: { level: 9 }, portable: true, follow: true, mtime }, files);
}
