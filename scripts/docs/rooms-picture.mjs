import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';

/** @typedef {Map<string, string[]>} Rooms each package and service, and those that it imports */

/** The packages and services, by their manifests, which test/package-dependencies.test.ts compares with the imports. @returns {Promise<Rooms>} */
export async function readRooms() {
  const names = await Promise.all(['packages', 'services'].map((folder) => readdir(path.join(ROOT_DIR, folder))));
  const folders = names.flatMap((group, i) => group.map((name) => `${i === 0 ? 'packages' : 'services'}/${name}`));
  const rooms = await Promise.all(
    folders.map(async (folder) => {
      const manifest = JSON.parse(await readFile(path.join(ROOT_DIR, folder, 'package.json'), 'utf8'));
      // The page is bundled: what it imports are development dependencies.
      const { dependencies, devDependencies } = manifest;
      const imported = folder === 'packages/page' ? devDependencies : dependencies;
      const ours = Object.keys(imported ?? {}).filter((name) => name.startsWith('@lorasmith/'));
      return /** @type {const} */ ([path.basename(folder), ours.map((name) => path.basename(name))]);
    }),
  );
  return new Map(rooms);
}

/**
 * The rooms by floors: a room stands above all that it imports. Behind a room is what it imports, without what one of these
 * imports itself.
 *
 * @param {Rooms} rooms
 * @returns {string} Markdown
 */
export function roomsPicture(rooms) {
  const importsOf = (/** @type {string} */ room) => rooms.get(room) ?? [];
  /** @type {(room: string) => number} */
  const floorOf = (room) => Math.max(0, ...importsOf(room).map((one) => floorOf(one) + 1));
  /** @type {(room: string) => Set<string>} */
  const reachedFrom = (room) => new Set(importsOf(room).flatMap((one) => [one, ...reachedFrom(one)]));
  const names = [...rooms.keys()].sort();
  const width = Math.max(...names.map((name) => name.length));
  const floors = Math.max(...names.map(floorOf));
  const lines = Array.from({ length: floors + 1 }, (_, i) => floors - i).flatMap((floor) =>
    names
      .filter((name) => floorOf(name) === floor)
      .map((name, i) => {
        const imports = importsOf(name);
        const nearest = imports.filter((one) => !imports.some((other) => reachedFrom(other).has(one))).sort();
        const arrow = nearest.length > 0 ? ` ─▶ ${nearest.join(', ')}` : '';
        return `${i === 0 ? floor : ' '}  ${nearest.length > 0 ? name.padEnd(width) : name}${arrow}`;
      }),
  );
  const arrows = names.reduce((sum, name) => sum + importsOf(name).length, 0);
  return [
    '```',
    ...lines,
    '```',
    '',
    `${names.length} rooms, ${arrows} arrows with those that follow from others, no circle.`,
  ].join('\n');
}
