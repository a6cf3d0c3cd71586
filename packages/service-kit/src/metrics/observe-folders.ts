import { statfs } from 'node:fs/promises';
import { Gauge, type Registry } from './create-metrics.js';

/**
 * Tells how full the file systems of some folders are.
 *
 * @param folders paths by the name that their label has, for instance `data`
 */
export function observeFolders(metrics: Registry, folders: Readonly<Record<string, string>>): void {
  new Gauge({
    name: 'lorasmith_folder_bytes',
    help: 'Of the file system that a folder is on: its size, and what is free for this process.',
    labelNames: ['folder', 'state'],
    registers: [metrics],
    async collect() {
      for (const [folder, path] of Object.entries(folders)) {
        try {
          const { bsize, blocks, bavail } = await statfs(path);
          this.set({ folder, state: 'total' }, bsize * blocks);
          this.set({ folder, state: 'free' }, bsize * bavail);
        } catch {
          // What cannot be looked at has no figures; `/ready` says that it is away.
          this.remove({ folder, state: 'total' });
          this.remove({ folder, state: 'free' });
        }
      }
    },
  });
}
