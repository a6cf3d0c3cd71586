import { Agent, fetch, Headers, type RequestInit, Response } from 'undici';

/** The hub or a mirror, and how it is reached. */
export interface HubSettings {
  /** Such as `https://huggingface.co`: no path, no query. */
  endpoint: string;
  /** Sent to the endpoint alone; null: none. */
  token: string | null;
  /** No answer, or no byte of one, for this long ends a request. @defaultValue 30 s */
  stallMs?: number | undefined;
  /** The wait before the second attempt of a request; doubled with each. @defaultValue 1 s */
  retryMs?: number | undefined;
}

/** An answer of the hub with another status than 2xx. */
export class HubAnswerError extends Error {
  override readonly name = 'HubAnswerError';
  readonly status: number;
  /** The hub's `X-Error-Code`, such as `GatedRepo`; empty for none. */
  readonly code: string;
  readonly retryAfterSeconds: number | null;
  /** True if it is the answer of the store of large files, to which another address than the hub's belongs. */
  readonly isOfStore: boolean;

  constructor({ status, headers }: Response, { isOfStore = false } = {}) {
    const code = headers.get('x-error-code') ?? '';
    const retryAfter = Number(headers.get('retry-after') ?? Number.NaN);
    super(`the hub answered ${status}`);
    this.status = status;
    this.isOfStore = isOfStore;
    this.code = ERROR_CODE.test(code) ? code : '';
    this.retryAfterSeconds = Number.isFinite(retryAfter) ? retryAfter : null;
  }
}

/** The hub answered, but not as a hub does, or with more than is read of an answer. */
export class HubProtocolError extends Error {
  override readonly name = 'HubProtocolError';
}

export interface HubFetch {
  /** A `fetch` for the hub's client. */
  fetch: typeof globalThis.fetch;
  close(): Promise<void>;
}

const STALL_MS = 30_000;
const MAX_REDIRECTS = 5;
/** Lists of files are JSON. 1000 files have about 300 KB. */
const MAX_JSON_BYTES = 16 * 2 ** 20;
/** Limits, for docs/limits.md. */
export const hubAnswerLimits = {
  bytes: { value: MAX_JSON_BYTES, unit: 'bytes', beyond: 'the pull fails' },
};
const ERROR_CODE = /^[A-Za-z0-9]{1,64}$/;

/**
 * A `fetch` that stays within bounds whatever the other side sends: the token goes to the endpoint and to nobody else, not
 * after a redirect either; redirects are few, and lead from https to https only; answers of the API are of limited size; a
 * silent connection is closed.
 *
 * It throws {@link HubAnswerError}, {@link HubProtocolError}, and the errors of `fetch`.
 *
 * Large files are uploaded with PUT to whatever address the hub names, without the token.
 *
 * @param signal - Ends every request.
 */
export function createHubFetch({ endpoint, token, stallMs = STALL_MS }: HubSettings, signal: AbortSignal): HubFetch {
  const home = new URL(endpoint);
  const agent = new Agent({ headersTimeout: stallMs, bodyTimeout: stallMs, connect: { timeout: stallMs } });

  const follow = async (first: URL, init: RequestInit): Promise<Response> => {
    let url = first;
    for (let redirects = 0; ; redirects++) {
      const headers = new Headers(init.headers);
      headers.delete('authorization');
      // A part of a compressed file could not be continued. For a request with a range, fetch itself asks for this.
      if (!isApi(first) && !headers.has('range')) headers.set('accept-encoding', 'identity');
      if (token !== null && url.origin === home.origin) headers.set('authorization', `Bearer ${token}`);
      const response = await fetch(url, { ...init, headers, redirect: 'manual', dispatcher: agent, signal });
      if (response.status < 300 || response.status > 399) return response;
      await response.body?.cancel();
      if (redirects === MAX_REDIRECTS) throw new HubProtocolError(`it redirects more than ${MAX_REDIRECTS} times`);
      url = targetOf(response.headers.get('location'), url);
    }
  };

  const targetOf = (location: string | null, base: URL): URL => {
    const target = location === null || !URL.canParse(location, base.href) ? null : new URL(location, base.href);
    const allowed = home.protocol === 'http:' ? ['http:', 'https:'] : ['https:'];
    if (target === null || !allowed.includes(target.protocol)) {
      throw new HubProtocolError('it redirects to something that is not an https address');
    }
    return target;
  };

  const bounded = async (input: unknown, init: RequestInit = {}): Promise<Response> => {
    const first = new URL(String(input));
    const isUpload = init.method === 'PUT';
    if (isUpload && home.protocol === 'https:' && first.protocol !== 'https:') {
      throw new HubProtocolError('it wants files at something that is not an https address');
    }
    // The hub's client takes the address of the next page from the answer.
    if (first.origin !== home.origin && !isUpload)
      throw new HubProtocolError('its answer continues at another address');
    const response = await follow(first, init);
    if (!response.ok) {
      await response.body?.cancel();
      throw new HubAnswerError(response, { isOfStore: isUpload });
    }
    // The hub's client gives this address back: the first one, because an address that the hub redirects to soon expires.
    return Object.defineProperty(isApi(first) ? await limited(response) : response, 'url', { value: first.href });
  };

  return {
    // undici's types and those of the global fetch differ in name only.
    fetch: bounded as unknown as typeof globalThis.fetch,
    close: () => agent.close(),
  };
}

const isApi = ({ pathname }: URL) => pathname.startsWith('/api/');

async function limited(response: Response): Promise<Response> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_JSON_BYTES) throw new HubProtocolError(`its answer has more than ${MAX_JSON_BYTES} bytes`);
    chunks.push(chunk);
  }
  return new Response(Buffer.concat(chunks), { status: response.status, headers: response.headers });
}
