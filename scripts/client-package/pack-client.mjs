import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { writePackage } from './write-package.mjs';

/**
 * Packs `@lorasmith/client` as npm does. The package of the workspace has its sources beside it and needs other packages of the
 * workspace; the packed one is complete in itself.
 *
 * @param {string} destination an existing folder
 * @returns {Promise<string>} the name of the file in it
 */
export async function packClient(destination) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-pack-'));
  try {
    await writePackage(folder);
    const args = ['pack', '--json', '--offline', '--pack-destination', path.resolve(destination)];
    const { stdout } = await promisify(execFile)('npm', args, { cwd: folder });
    return JSON.parse(stdout)[0].filename;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
