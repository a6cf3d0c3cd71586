// node prune-packages.mjs SERVICE: removes files that the service does not need to run: unused packages of the workspace,
// types and source maps in node_modules, everything of tfjs-node-gpu except its compiled addon, and what pnpm and set-up noted of the
// installation, which has its time.
import { readdir, rm, utimes } from 'node:fs/promises';
import path from 'node:path';
import { servicePackages } from './service-packages.mjs';

const [service = ''] = process.argv.slice(2);
const NOT_FOR_RUNNING = /\.(map|d\.ts|d\.mts|d\.cts|ts|mts|cts|tsbuildinfo|flow|lorasmith-key)$/;
const BESIDE_THE_ADDON = /\/node_modules\/@tensorflow\/tfjs-node-gpu\/(?!package\.json$|lib\/|deps\/)/;

const now = new Date();
const ours = new Set(await servicePackages('.', service));
for (const group of ['packages', 'services']) {
  for (const name of await readdir(group)) {
    if (!ours.has(`${group}/${name}`)) await rm(path.join(group, name), { recursive: true });
  }
}
for (const name of await readdir('node_modules')) {
  if (/^\.(modules\.yaml|pnpm-workspace-state.*\.json)$/.test(name)) await rm(path.join('node_modules', name));
}
for (const entry of await readdir('node_modules/.pnpm', { recursive: true, withFileTypes: true })) {
  const file = path.join(entry.parentPath, entry.name);
  if (!entry.isFile()) continue;
  if (NOT_FOR_RUNNING.test(file) || BESIDE_THE_ADDON.test(file)) await rm(file);
  // pnpm leaves empty files the time at which they came into its store, which may be before that of the release.
  else await utimes(file, now, now);
}
