import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { inject } from 'vitest';

/** Creates a data folder whose workers share the measurements of this machine with those of all other test files. */
export async function makeDataFolder(dataDir: string): Promise<void> {
  await mkdir(dataDir, { recursive: true });
  await symlink(inject('machinesDir'), path.join(dataDir, 'machines'));
}
