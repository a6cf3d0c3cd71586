import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { closed, ProductError } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';

/**
 * The rights of the page: it may run and show its own files, and call this service. It has no inline code and no other origin, cannot
 * be framed, and nothing in it may turn text into HTML.
 */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** The headers of every page of this origin: no other site may frame it or read it. */
export const PAGE_HEADERS = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

/** Serves the page at `/` and its files at `/assets`. They need no key: what they show, they ask the API for. */
export async function servePage(app: HttpApp, { site }: { site: Site | null }): Promise<void> {
  app.get('/', { schema: { hide: true } }, async (request, reply) => {
    const index = site?.get('index.html');
    if (index === undefined) throw notBuilt();
    return answerFile(index, request, reply);
  });
  const params = Type.Object({ name: Type.String() }, closed);
  app.get('/assets/:name', { schema: { hide: true, params } }, async (request, reply) => {
    const file = site?.get(`assets/${request.params.name}`);
    if (file === undefined) throw new ProductError('not_found', 'The page has no such file. Load the page again.');
    return answerFile(file, request, reply);
  });
}

function answerFile(file: SiteFile, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { 'accept-encoding': accepted = '', 'if-none-match': known = '' } = request.headers;
  const coding = codingOf(accepted, file);
  // The bytes of another coding are another representation.
  const etag = coding === 'identity' ? file.etag : file.etag.replace(/"$/, `-${coding}"`);
  reply
    .headers({ ...PAGE_HEADERS, 'content-security-policy': CONTENT_SECURITY_POLICY })
    .header('vary', 'accept-encoding')
    .header('etag', etag)
    // The page itself has the names of its files, so it is asked for each time.
    .header('cache-control', file.isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache');
  if (known.split(',').some((one) => one.trim().replace(/^W\//, '') === etag)) return reply.code(304).send();
  if (coding !== 'identity') reply.header('content-encoding', coding);
  return reply.type(file.type).send(file.bytes[coding]);
}

/** The smallest form that the client accepts (RFC 9110, 12.5.3). */
function codingOf(accepted: string, { bytes }: SiteFile): 'br' | 'gzip' | 'identity' {
  const codings = accepted.split(',').map((one) => one.trim().toLowerCase());
  const accepts = (name: string) =>
    codings.some((one) => one === name || (one.startsWith(`${name};`) && !/;\s*q=0(\.0*)?$/.test(one)));
  if (bytes.br !== undefined && accepts('br')) return 'br';
  return bytes.gzip !== undefined && accepts('gzip') ? 'gzip' : 'identity';
}

function notBuilt(): ProductError {
  return new ProductError(
    'not_found',
    'The web page is not built. Run npm run setup, or node packages/page/build-site.mjs, and start the service again. ' +
      'The API works without it; GET /docs documents it.',
  );
}

/** A file of the page, in memory. */
export interface SiteFile {
  type: string;
  /** The tag with quotes, as in the header. */
  etag: string;
  /** True if its name changes with its content. */
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

/** The folder in which `packages/page/build-site.mjs` builds the page. */
export function siteFolder(): string {
  return fileURLToPath(new URL('dist/site', import.meta.resolve('@lorasmith/page/package.json')));
}

/** Reads a built page: half a megabyte. Null if there is none in this folder. */
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
