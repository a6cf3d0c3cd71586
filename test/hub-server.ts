import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { gitSha1Of, type HubBranch, type HubServerFile, type HubServerRepo, sha256Of } from './hub-content.js';
import { answerPush, failsPush, type HubPushes, noPushes, storeUpload } from './hub-pushes.js';

/** The faults to come. Each counter is lowered when it happens. */
export interface HubFaults {
  /** Answers of large files that end, with their connection, after this many bytes. */
  cuts: { times: number; afterBytes: number };
  /** Answers of the API with 503. */
  unavailable: { times: number };
  /** Large files are sent whole, whatever part is asked for. */
  ignoreRanges: boolean;
  /** Large files come with their first byte changed. */
  corrupt: { times: number };
  /** Large files wait after their first bytes until `release` is called. */
  holdAfterBytes: number | null;
}

export interface HubRequest {
  server: 'hub' | 'store';
  method: string;
  path: string;
  range: string | null;
  authorization: string | null;
  acceptEncoding: string;
}

/**
 * A server that speaks the hub's paths over HTTP as https://huggingface.co does: revisions, pages of the list of files,
 * redirects of large files to a second server with another origin, ranges, the headers and content type of Xet, and the
 * error codes.
 */
export interface HubServer {
  url: string;
  /** Repositories by name: `ORG/NAME` of a model, `datasets/OWNER/NAME` of a dataset. */
  repos: Map<string, HubServerRepo>;
  faults: HubFaults;
  pushes: HubPushes;
  requests: HubRequest[];
  /** Lets all held answers continue. */
  release(): void;
  stop(): Promise<void>;
}

const PAGE_FILES = 3;

/**
 * @param address - `host`: a name or address of this machine, by which clients reach it; `port`: of the hub, 0 for a free one.
 */
export async function startHubServer({ host = '127.0.0.1', port = 0 } = {}): Promise<HubServer> {
  const repos = new Map<string, HubServerRepo>();
  const requests: HubRequest[] = [];
  const pushes = noPushes();
  const faults: HubFaults = {
    cuts: { times: 0, afterBytes: 0 },
    unavailable: { times: 0 },
    ignoreRanges: false,
    corrupt: { times: 0 },
    holdAfterBytes: null,
  };
  let held: (() => void)[] = [];
  const note = (server: HubRequest['server'], { method = '', url = '', headers }: IncomingMessage) =>
    requests.push({
      server,
      method,
      path: url,
      range: headers.range ?? null,
      authorization: headers.authorization ?? null,
      acceptEncoding: String(headers['accept-encoding'] ?? ''),
    });

  const store = createServer((request, response) => {
    note('store', request);
    if (failsPush(pushes, request, response)) return;
    if (request.method === 'PUT') return void storeUpload(pushes, request, response);
    const sha256 = path.basename(new URL(request.url ?? '', 'http://store').pathname);
    const file = [...repos.values()]
      .flatMap(({ files }) => [...files.values()])
      .find(({ large, bytes }) => large && sha256Of(bytes) === sha256);
    if (file === undefined) return fail(response, 404, '');
    // As S3 does: not the digest of the hub.
    response.setHeader('etag', '"0123456789abcdef-1"');
    sendLarge(file.bytes, request, response, faults, (resume) => held.push(resume));
  });
  const storeUrl = await listening(store, host, 0);

  const answerHub = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    note('hub', request);
    if (failsPush(pushes, request, response)) return;
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://hub');
    if (await answerPush(pushes, { request, response, path: pathname, repos, storeUrl, hubUrl: url })) return;
    if (pathname.startsWith('/api/') && faults.unavailable.times > 0) {
      faults.unavailable.times--;
      return fail(response, 503, '');
    }
    const [, repoName = '', kind = '', revision = '', fileName = ''] =
      /^\/(?:api\/(?:models\/|(?=datasets\/)))?((?:datasets\/)?[^/]+\/[^/]+)\/(revision|tree|resolve|commits)\/(refs\/[^/]+\/[^/]+|[^/]+)(?:\/(.*))?$/.exec(
        decodeURIComponent(pathname),
      ) ?? [];
    const repo = repos.get(repoName);
    if (repo === undefined) return fail(response, request.headers.authorization ? 404 : 401, 'RepoNotFound');
    if (repo.token !== null && request.headers.authorization !== `Bearer ${repo.token}`) {
      const status = request.headers.authorization ? 403 : 401;
      return fail(response, status, repo.gated ? 'GatedRepo' : 'RepoNotFound');
    }
    const at = branchOf(repo, revision);
    if (at === null) return fail(response, 404, 'RevisionNotFound');
    if (kind === 'commits') {
      const last = { id: at.commit, title: at.title, message: '', authors: [], date: '2026-01-01T00:00:00.000Z' };
      return json(response, [last]);
    }
    if (kind === 'revision') {
      const about = { _id: '0', id: repoName, private: false, gated: false, downloads: 1, likes: 1, sha: at.commit };
      return json(response, { ...about, lastModified: '2026-01-01T00:00:00.000Z' });
    }
    if (kind === 'tree') return sendPage({ ...repo, ...at }, { request, response, searchParams });
    const file = at.files.get(fileName);
    if (file === undefined) return fail(response, 404, 'EntryNotFound');
    sendResolved(file, { request, response, storeUrl, repo });
  };
  const hub = createServer((request, response) => void answerHub(request, response));
  const url = await listening(hub, host, port);

  const release = () => {
    for (const resume of held) resume();
    held = [];
  };
  return {
    url,
    repos,
    faults,
    pushes,
    requests,
    release,
    async stop() {
      release();
      for (const server of [hub, store]) {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      }
    },
  };
}

/** A repository with these files. Safetensors, Parquet and files over 10 kB are large. */
export function hubRepo(
  files: Readonly<Record<string, Buffer | string>>,
  { commit = 'a'.repeat(40), token = null as string | null, gated = false, xet = true } = {},
): HubServerRepo {
  const entries = Object.entries(files).map(([name, content]): [string, HubServerFile] => {
    const bytes = Buffer.from(content);
    const large = /\.(safetensors|parquet)$/.test(name) || bytes.length > 10_000;
    return [name, { bytes, large, digest: large ? sha256Of(bytes) : gitSha1Of(bytes) }];
  });
  const branches = new Map<string, HubBranch>();
  return {
    commit,
    title: 'a commit',
    revisions: ['main', 'HEAD'],
    branches,
    files: new Map(entries),
    token,
    gated,
    xet,
  };
}

/** The files of a folder, for {@link hubRepo}. */
export async function filesOf(folder: string): Promise<Record<string, Buffer>> {
  const files: Record<string, Buffer> = {};
  for (const name of await readdir(folder))
    if (!name.startsWith('.')) files[name] = await readFile(path.join(folder, name));
  return files;
}

/** The branch or commit of this name; null: there is none. */
function branchOf(repo: HubServerRepo, revision: string): HubBranch | null {
  if (revision === repo.commit || repo.revisions.includes(revision)) return repo;
  const branch = repo.branches.get(revision);
  return branch ?? [...repo.branches.values()].find(({ commit }) => commit === revision) ?? null;
}

function sendPage(
  { files, xet }: HubServerRepo,
  {
    request,
    response,
    searchParams,
  }: { request: IncomingMessage; response: ServerResponse; searchParams: URLSearchParams },
) {
  const from = Number(searchParams.get('cursor') ?? 0);
  const listed = [...files].filter(([name]) => searchParams.get('recursive') === 'true' || !name.includes('/'));
  const entries = [
    { type: 'directory', oid: gitSha1Of(Buffer.from('tree')), size: 0, path: 'onnx' },
    ...listed.map(([name, { bytes, large, digest }]) => ({
      type: 'file',
      path: name,
      size: bytes.length,
      ...(large
        ? {
            oid: gitSha1Of(Buffer.from(`pointer of ${name}`)),
            lfs: { oid: digest, size: bytes.length, pointerSize: 134 },
            ...(xet ? { xetHash: sha256Of(Buffer.from(`xet of ${name}`)) } : {}),
          }
        : { oid: digest }),
    })),
  ];
  const next = new URL(request.url ?? '', `http://${request.headers.host}`);
  next.searchParams.set('cursor', String(from + PAGE_FILES));
  if (from + PAGE_FILES < entries.length) response.setHeader('link', `<${next.href}>; rel="next"`);
  json(response, entries.slice(from, from + PAGE_FILES));
}

function sendResolved(
  { bytes, large, digest }: HubServerFile,
  at: { request: IncomingMessage; response: ServerResponse; storeUrl: string; repo: HubServerRepo },
) {
  const { request, response, storeUrl, repo } = at;
  response.setHeader('x-repo-commit', repo.commit);
  response.setHeader('etag', `"${digest}"`);
  response.setHeader('accept-ranges', 'bytes');
  if (!large) return sendPart(bytes, request, response);
  response.setHeader('x-linked-etag', `"${digest}"`);
  response.setHeader('x-linked-size', String(bytes.length));
  if (repo.xet) response.setHeader('x-xet-hash', sha256Of(Buffer.from('xet')));
  if (repo.xet && request.headers.accept?.includes('application/vnd.xet-fileinfo+json')) {
    response.setHeader(
      'link',
      `<${storeUrl}/reconstructions/1>; rel="xet-reconstruction-info", <${storeUrl}/token>; rel="xet-auth"`,
    );
    response.writeHead(200, { 'content-type': 'application/vnd.xet-fileinfo+json' });
    return response.end(JSON.stringify({ hash: 'xet' }));
  }
  response.writeHead(302, { location: `${storeUrl}/blobs/${sha256Of(bytes)}?signature=secret` });
  response.end();
}

function partOf(bytes: Buffer, range: string | undefined): { start: number; part: Buffer } | null {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  if (from === undefined) return null;
  return { start: Number(from), part: bytes.subarray(Number(from), to ? Number(to) + 1 : undefined) };
}

function sendPart(bytes: Buffer, request: IncomingMessage, response: ServerResponse): void {
  const wanted = partOf(bytes, request.headers.range);
  if (wanted === null) {
    response.writeHead(200, { 'content-length': bytes.length });
    response.end(bytes);
    return;
  }
  writePartHead(response, wanted, bytes);
  response.end(wanted.part);
}

function writePartHead(
  response: ServerResponse,
  { start, part }: { start: number; part: Buffer },
  whole: Buffer,
): void {
  response.writeHead(206, {
    'content-length': part.length,
    'content-range': `bytes ${start}-${start + part.length - 1}/${whole.length}`,
  });
}

function sendLarge(
  bytes: Buffer,
  request: IncomingMessage,
  response: ServerResponse,
  faults: HubFaults,
  hold: (resume: () => void) => void,
): void {
  const wanted = faults.ignoreRanges ? null : partOf(bytes, request.headers.range);
  let part = Buffer.from(wanted?.part ?? bytes);
  if (wanted === null) response.writeHead(200, { 'content-length': bytes.length });
  else writePartHead(response, wanted, bytes);
  // The hub's client asks for the first byte to learn the size.
  if (faults.corrupt.times > 0 && part.length > 1) {
    faults.corrupt.times--;
    part[0] = part[0]! ^ 0xff;
  }
  if (faults.cuts.times > 0 && part.length > faults.cuts.afterBytes) {
    faults.cuts.times--;
    part = part.subarray(0, faults.cuts.afterBytes);
    response.write(part, () => response.destroy());
    return;
  }
  if (faults.holdAfterBytes !== null && part.length > faults.holdAfterBytes) {
    const first = faults.holdAfterBytes;
    response.write(part.subarray(0, first));
    hold(() => response.end(part.subarray(first)));
    return;
  }
  response.end(part);
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify(value));
}

function fail(response: ServerResponse, status: number, code: string): void {
  if (code !== '') response.setHeader('x-error-code', code);
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify({ error: '<script>an error of the hub</script>' }));
}

async function listening(server: Server, host: string, port: number): Promise<string> {
  server.listen(port, host);
  await once(server, 'listening');
  return `http://${host}:${(server.address() as AddressInfo).port}`;
}
