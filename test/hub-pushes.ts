import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { gitSha1Of, type HubServerFile, type HubServerRepo, sha256Of } from './hub-content.js';

/** An account of the hub. */
export interface HubAccount {
  name: string;
  /** Organisations in whose repositories it may write. */
  orgs: string[];
  /** The right of its token. */
  role: 'read' | 'write';
}

/** A way in which the hub fails, for the next requests whose method and path match. */
export interface PushFault {
  /** Matched with `POST /api/…`. */
  at: RegExp;
  times: number;
  /** A status; `hang`: no answer; `break`: the connection ends in the middle of the request; `late`: it ends after the request has had its effect. */
  how: number | 'hang' | 'break' | 'late';
  retryAfter?: number;
}

/** The state of the hub to which pushes belong. */
export interface HubPushes {
  /** Accounts by their token. */
  accounts: Map<string, HubAccount>;
  faults: PushFault[];
  /** Large files by their sha256. */
  stored: Map<string, Buffer>;
  /** Parts that were uploaded, by `SHA256/NUMBER`. */
  parts: Map<string, Buffer>;
  /** Large files are asked for in parts of this size; null: whole. */
  partBytes: number | null;
  /** The next commits keep this file as it was before. */
  forgetsFile: string | null;
}

export function noPushes(): HubPushes {
  return {
    accounts: new Map(),
    faults: [],
    stored: new Map(),
    parts: new Map(),
    partBytes: null,
    forgetsFile: null,
  };
}

interface Request {
  request: IncomingMessage;
  response: ServerResponse;
  path: string;
  repos: Map<string, HubServerRepo>;
  storeUrl: string;
  hubUrl: string;
}

/** Fails as the faults say. @returns true if the request is answered, or never will be */
export function failsPush(pushes: HubPushes, request: IncomingMessage, response: ServerResponse): boolean {
  const line = `${request.method} ${request.url}`;
  const fault = pushes.faults.find(({ at, times, how }) => times > 0 && how !== 'late' && at.test(line));
  if (fault === undefined) return false;
  fault.times--;
  if (fault.how === 'break') request.once('data', () => request.destroy());
  else if (typeof fault.how === 'number') {
    request.resume();
    if (fault.retryAfter !== undefined) response.setHeader('retry-after', String(fault.retryAfter));
    answer(response, fault.how, { error: 'an error of the hub with <b>markup</b>' });
  }
  return true;
}

/** Takes a PUT of the store of large files. */
export async function storeUpload(pushes: HubPushes, request: IncomingMessage, response: ServerResponse) {
  const [, sha256 = '', part] = /^\/uploads\/([0-9a-f]{64})(?:\/(\d+))?/.exec(request.url ?? '') ?? [];
  const bytes = await bodyOf(request);
  if (part !== undefined) pushes.parts.set(`${sha256}/${part}`, bytes);
  else if (sha256Of(bytes) === sha256) pushes.stored.set(sha256, bytes);
  else return answer(response, 400, { error: 'other bytes' });
  response.setHeader('etag', `"${createHash('md5').update(bytes).digest('hex')}"`);
  answer(response, 200, {});
}

/** Answers the calls with which a repository is written. @returns false if it is another call */
export async function answerPush(pushes: HubPushes, at: Request): Promise<boolean> {
  const { request, response, path } = at;
  const call = `${request.method} ${path}`;
  const account = pushes.accounts.get(/^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1] ?? '');
  if (call === 'GET /api/whoami-v2') {
    if (account === undefined) return answer(response, 401, { error: 'Invalid user token.' });
    const orgs = account.orgs.map((name) => ({ name }));
    const accessToken = { displayName: 't', role: account.role, createdAt: '2026-01-01T00:00:00.000Z' };
    return answer(response, 200, {
      type: 'user',
      name: account.name,
      orgs,
      auth: { type: 'access_token', accessToken },
    });
  }
  const mayWrite = (repo: string) =>
    account?.role === 'write' && [account.name, ...account.orgs].includes(repo.split('/')[0]!);
  if (call === 'POST /api/repos/create') {
    const { name, organization, visibility } = JSON.parse((await bodyOf(request)).toString());
    const repo = `${organization}/${name}`;
    if (!mayWrite(repo)) return answer(response, 403, { error: "You don't have the rights to create a model" });
    if (at.repos.has(repo)) return answer(response, 409, { error: 'You already created this model repo' });
    at.repos.set(repo, newRepo(visibility === 'private' ? tokenOf(request) : null));
    return answer(response, 200, { url: `${at.hubUrl}/${repo}`, id: 'x' });
  }
  const completion = /^POST \/api\/complete\/([0-9a-f]{64})$/.exec(call);
  if (completion !== null) return await complete(pushes, completion[1]!, at);
  const [, name, kind, branch = ''] =
    /^POST \/(?:api\/models\/)?([^/]+\/[^/]+?)(?:\/(preupload|commit|branch)\/(.+)|\.git\/info\/lfs\/objects\/batch)$/.exec(
      decodeURIComponent(call),
    ) ?? [];
  if (name === undefined) return false;
  const repo = at.repos.get(name);
  if (repo === undefined) return answer(response, 404, { error: 'Repository not found' }, 'RepoNotFound');
  if (!mayWrite(name)) return answer(response, 403, { error: 'You do not have write access' });
  const body = (await bodyOf(request)).toString();
  if (kind === 'branch') {
    repo.branches.set(branch, { commit: newCommit(), files: new Map(repo.files), title: repo.title });
    return answer(response, 200, {});
  }
  if (kind === 'preupload') {
    const files = JSON.parse(body).files as { path: string; size: number }[];
    const modes = files.map(({ path: file, size }) => ({
      path: file,
      uploadMode: size > 10_000 || file.endsWith('.safetensors') ? 'lfs' : 'regular',
      shouldIgnore: false,
    }));
    return answer(response, 200, { files: modes });
  }
  if (kind === 'commit') return commit(pushes, repo, { ...at, branch, body });
  const objects = JSON.parse(body).objects as { oid: string; size: number }[];
  return answer(response, 200, { transfer: 'basic', objects: objects.map((one) => uploadOf(pushes, one, at)) });
}

function uploadOf({ stored, partBytes }: HubPushes, { oid, size }: { oid: string; size: number }, at: Request) {
  if (stored.has(oid)) return { oid, size };
  if (partBytes === null)
    return { oid, size, actions: { upload: { href: `${at.storeUrl}/uploads/${oid}?signature=s` } } };
  const count = Math.ceil(size / partBytes);
  const parts = Array.from({ length: count }, (_, i) => [
    String(i + 1).padStart(5, '0'),
    `${at.storeUrl}/uploads/${oid}/${i + 1}`,
  ]);
  const header = { chunk_size: String(partBytes), ...Object.fromEntries(parts) };
  return { oid, size, actions: { upload: { href: `${at.hubUrl}/api/complete/${oid}`, header } } };
}

async function complete(pushes: HubPushes, sha256: string, { request, response }: Request): Promise<true> {
  const { parts } = JSON.parse((await bodyOf(request)).toString()) as { parts: { partNumber: number }[] };
  const bytes = Buffer.concat(parts.map(({ partNumber }) => pushes.parts.get(`${sha256}/${partNumber}`)!));
  if (sha256Of(bytes) !== sha256) return answer(response, 400, { error: 'other bytes' });
  pushes.stored.set(sha256, bytes);
  return answer(response, 200, {});
}

interface Line {
  key: 'header' | 'file' | 'lfsFile' | 'deletedFile';
  value: { path: string; content: string; oid: string; parentCommit?: string; summary: string };
}

function commit(
  pushes: HubPushes,
  repo: HubServerRepo,
  { request, response, branch, body }: Request & { branch: string; body: string },
): true {
  const at = repo.revisions.includes(branch) ? repo : repo.branches.get(branch);
  if (at === undefined) return answer(response, 404, { error: 'no branch' }, 'RevisionNotFound');
  const lines = body.split('\n').map((line) => JSON.parse(line) as Line);
  const { parentCommit, summary } = lines[0]!.value;
  if (parentCommit !== undefined && parentCommit !== at.commit) {
    return answer(response, 412, { error: 'A commit has happened since. Please refresh and try again.' });
  }
  const files = new Map(at.files);
  for (const { key, value } of lines.slice(1)) {
    if (value.path === pushes.forgetsFile) continue;
    if (key === 'deletedFile') files.delete(value.path);
    else if (key === 'file') files.set(value.path, fileOf(Buffer.from(value.content, 'base64'), false));
    else {
      const bytes = pushes.stored.get(value.oid);
      if (bytes === undefined) return answer(response, 400, { error: 'a large file was not uploaded' });
      files.set(value.path, fileOf(bytes, true));
    }
  }
  Object.assign(at, { files, commit: newCommit(), title: summary });
  const late = pushes.faults.find(
    ({ at: where, times, how }) => times > 0 && how === 'late' && where.test(`POST ${request.url}`),
  );
  if (late !== undefined) {
    late.times--;
    request.destroy();
    return true;
  }
  return answer(response, 200, { success: true, commitOid: at.commit, commitUrl: 'x', hookOutput: '' });
}

/** A repository as the hub makes it: with one file and one commit. */
function newRepo(token: string | null): HubServerRepo {
  const files = new Map([['.gitattributes', fileOf(Buffer.from('*.safetensors filter=lfs\n'), false)]]);
  const place = { commit: newCommit(), revisions: ['main', 'HEAD'], files, title: 'initial commit' };
  return { ...place, branches: new Map(), token, gated: false, xet: true };
}

function fileOf(bytes: Buffer, large: boolean): HubServerFile {
  return { bytes, large, digest: large ? sha256Of(bytes) : gitSha1Of(bytes) };
}

let commits = 0;
function newCommit(): string {
  return createHash('sha1').update(`commit ${commits++}`).digest('hex');
}

function tokenOf(request: IncomingMessage): string {
  return (request.headers.authorization ?? '').replace('Bearer ', '');
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function answer(response: ServerResponse, status: number, value: unknown, code = ''): true {
  if (code !== '') response.setHeader('x-error-code', code);
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify(value));
  return true;
}
