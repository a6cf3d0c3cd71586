import { closed, ProductError } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Site, SiteFile } from './read-site.js';

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
