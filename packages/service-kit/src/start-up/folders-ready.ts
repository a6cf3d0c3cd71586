import { access, constants } from 'node:fs/promises';
import type { ReadyCheck } from '../health-routes.js';
import type { FolderChecks } from './check-folders.js';

/** Whether the folders of a running service are there, for `/ready`: those that `checkFolders` looks at before it starts. */
export function foldersReady({ dataDir, modelsDir }: Omit<FolderChecks, 'logger'>): Record<string, ReadyCheck> {
  return {
    data: () => access(dataDir, constants.W_OK),
    ...(modelsDir === null ? {} : { models: () => access(modelsDir) }),
  };
}
