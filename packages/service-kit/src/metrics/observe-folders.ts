import { statfs } from 'node:fs/promises';
import { Gauge, type Registry } from './create-metrics.js';

/**
 * Reports the size and free space of the file systems of some folders.
 *
 * @param folders paths by the value of their label, for instance `data`
 */
export function observeFolders(metrics: Registry, folders: Readonly<Record<string, string>>): void {
  new Gauge({
    name: 'lorasmith_folder_bytes',
    help: 'Size of the file system of a folder, and its free space for this process.',
    labelNames: ['folder', 'state'],
    registers: [metrics],
    async collect() {
      for (const [folder, path] of Object.entries(folders)) {
        try {
          const { bsize, blocks, bavail } = await statfs(path);
          this.set({ folder, state: 'total' }, bsize * blocks);
          this.set({ folder, state: 'free' }, bsize * bavail);
        } catch {
          // A folder that is unavailable has no figures; `/ready` reports it.
          this.remove({ folder, state: 'total' });
          this.remove({ folder, state: 'free' });
        }
      }
    },
  });
}
