import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { packageFolders, ROOT_DIR } from '../setup/locations.mjs';

/**
 * Replaces a part of a page, between the two marks that name it.
 *
 * @param {string} page
 * @param {string} name
 * @param {string} text Markdown
 * @throws {Error} when the page lacks the marks
 */
export function withPart(page, name, text) {
  const [begin, end] = [`<!-- ${name}: written by \`npm run docs\` -->`, `<!-- end of ${name} -->`];
  const [before, rest = ''] = page.split(begin);
  const [, after] = rest.split(end);
  if (before === undefined || after === undefined) throw new Error(`the page lacks ${begin} or ${end}`);
  return `${before}${begin}\n\n${text}\n\n${end}${after}`;
}

/**
 * A table of all error codes.
 *
 * @param {Readonly<Record<string, { status: number, meaning: string }>>} errors
 * @returns {string} Markdown
 */
export function errorTable(errors) {
  const rows = Object.entries(errors).map(([code, { status, meaning }]) => `| \`${code}\` | ${status} | ${meaning} |`);
  return ['| Code | Status | When, and what to do |', '| --- | --- | --- |', ...rows].join('\n');
}

/** @typedef {Map<string, { folder: string, description: string, imports: string[] }>} Rooms packages and services by name */

/** The packages and services, by their manifests, which test/package-dependencies.test.ts compares with the imports. @returns {Promise<Rooms>} */
export async function readRooms() {
  const rooms = await Promise.all(
    packageFolders().map(async (folder) => {
      const manifest = JSON.parse(await readFile(path.join(ROOT_DIR, folder, 'package.json'), 'utf8'));
      const { description, dependencies, devDependencies } = manifest;
      // The page is bundled: what it imports are development dependencies.
      const declared = Object.keys((folder === 'packages/page' ? devDependencies : dependencies) ?? {});
      const imports = declared.filter((name) => name.startsWith('@lorasmith/')).map((name) => path.basename(name));
      return /** @type {const} */ ([path.basename(folder), { folder, description, imports }]);
    }),
  );
  return new Map(rooms);
}

/**
 * The rooms by floors: a room stands above all that it imports. An arrow leads to what a room imports, unless something else that
 * it imports stands on that already.
 *
 * @param {Rooms} rooms
 * @returns {string} Markdown: the picture, and a table of the rooms
 */
export function roomsPicture(rooms) {
  const importsOf = (/** @type {string} */ room) => rooms.get(room)?.imports ?? [];
  /** @type {(room: string) => number} */
  const floorOf = (room) => Math.max(0, ...importsOf(room).map((one) => floorOf(one) + 1));
  /** @type {(room: string) => Set<string>} */
  const reachedFrom = (room) => new Set(importsOf(room).flatMap((one) => [one, ...reachedFrom(one)]));
  const nearestOf = (/** @type {string} */ room) =>
    importsOf(room).filter((one) => !importsOf(room).some((other) => reachedFrom(other).has(one)));
  const names = [...rooms.keys()].sort((one, other) => floorOf(other) - floorOf(one) || (one < other ? -1 : 1));
  const width = Math.max(...names.map((name) => name.length));
  const lines = names.map((name, i) => {
    const floor = i > 0 && floorOf(name) === floorOf(names[i - 1] ?? '') ? ' ' : floorOf(name);
    const nearest = nearestOf(name).sort();
    return `${floor}  ${nearest.length > 0 ? `${name.padEnd(width)} ─▶ ${nearest.join(', ')}` : name}`;
  });
  const arrows = names.reduce((sum, name) => sum + nearestOf(name).length, 0);
  const table = names.map((name) => `| \`${rooms.get(name)?.folder}\` | ${rooms.get(name)?.description} |`);
  return [
    ['```', ...lines, '```'].join('\n'),
    `${names.length} rooms, ${arrows} arrows, no circle.`,
    ['| Room | What it is |', '| --- | --- |', ...table].join('\n'),
  ].join('\n\n');
}
