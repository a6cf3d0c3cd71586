// node collect-service.mjs SERVICE FOLDER: copies the compiled packages of one service and their scripts of Redis, in the layout of the
// workspace.
import { cp, readdir } from 'node:fs/promises';
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
  // The compiler copies no Lua: compiled code reads the scripts of Redis where they are.
  for (const name of await readdir(path.join(folder, 'src'), { recursive: true })) {
    if (name.endsWith('.lua')) await cp(path.join(folder, 'src', name), path.join(target, folder, 'src', name));
  }
}
