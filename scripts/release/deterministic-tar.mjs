import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { create } from 'tar';

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
