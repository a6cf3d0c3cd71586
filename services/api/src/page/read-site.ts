import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** A file of the page, in memory. */
export interface SiteFile {
  type: string;
  /** The tag with quotes, as in the header. */
  etag: string;
  /** Whether its name changes with its content. */
  isImmutable: boolean;
  /** The bytes by content coding; `identity` is always there. */
  bytes: Readonly<{ identity: Buffer; gzip?: Buffer; br?: Buffer }>;
}

/** The files of the page by path, such as `index.html` and `assets/index-BX1q9a2d.js`. */
export type Site = ReadonlyMap<string, SiteFile>;

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.md': 'text/markdown; charset=utf-8',
  '.svg': 'image/svg+xml',
};
/** Vite's digest at the end of a name. */
const HASHED = /-[A-Za-z0-9_-]{8}\.\w+$/;

/** Where `packages/page/build-site.mjs` builds the page. */
export function siteFolder(): string {
  return fileURLToPath(new URL('dist/site', import.meta.resolve('@lorasmith/page/package.json')));
}

/** Reads a built page: half a megabyte. Null if there is none at this place. */
export async function readSite(folder: string): Promise<Site | null> {
  if (!existsSync(path.join(folder, 'index.html'))) return null;
  const names = (await readdir(folder, { recursive: true })).map((name) => name.replaceAll(path.sep, '/'));
  const files = await Promise.all(
    names.flatMap((name) => {
      const type = TYPES[path.extname(name)];
      return type === undefined ? [] : [readSiteFile(folder, name, type)];
    }),
  );
  return new Map(files);
}

async function readSiteFile(folder: string, name: string, type: string): Promise<[string, SiteFile]> {
  const read = async (suffix: string) => {
    const file = path.join(folder, name + suffix);
    return existsSync(file) ? await readFile(file) : undefined;
  };
  const identity = await readFile(path.join(folder, name));
  const [gzip, br] = await Promise.all([read('.gz'), read('.br')]);
  const bytes = { identity, ...(gzip && { gzip }), ...(br && { br }) };
  const etag = `"${createHash('sha256').update(identity).digest('base64url').slice(0, 22)}"`;
  return [name, { type, etag, isImmutable: HASHED.test(name), bytes }];
}
