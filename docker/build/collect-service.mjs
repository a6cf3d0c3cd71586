// node collect-service.mjs SERVICE FOLDER: copies the compiled packages of one service, in the layout of the workspace.
import { cp } from 'node:fs/promises';
import path from 'node:path';
import { servicePackages } from './service-packages.mjs';

const [service = '', target = ''] = process.argv.slice(2);
for (const folder of await servicePackages('.', service)) {
  await cp(path.join(folder, 'package.json'), path.join(target, folder, 'package.json'));
  await cp(path.join(folder, 'dist'), path.join(target, folder, 'dist'), {
    recursive: true,
    // Types, source maps and build state are needed only for building.
    filter: (file) => !/\.(d\.m?ts|map|tsbuildinfo)$/.test(file),
  });
}
