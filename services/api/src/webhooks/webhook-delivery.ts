import { createHmac } from 'node:crypto';
import { lookup as resolve } from 'node:dns';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import type { Owner } from '@lorasmith/contracts';
import { linkSignals, PRODUCT_VERSION } from '@lorasmith/service-kit';
import { boundedText } from '../bounded-text.js';
import { checkWebhookUrl, hostOf, isPublicAddress } from './webhook-config.js';

export interface PostOptions {
  url: string;
  headers: Readonly<Record<string, string>>;
  body: string;
  allowPrivate: boolean;
  /** The time for all of it: resolving, connecting, sending, and the answer. */
  timeoutMs: number;
  /** The most of the answer's body that is read. @defaultValue 0: nothing of it */
  maxAnswerBytes?: number;
  signal: AbortSignal;
  /** @defaultValue that of the system */
  lookup?: LookupFunction;
}

export interface WebhookAnswer {
  status: number;
  /** '' where nothing of it was to be read. */
  body: string;
}

/**
 * Sends a webhook. The connection goes to an address that was checked: a name that resolves to an address of a private network is
 * refused, whatever it resolved to before. Redirections are not followed, and of the answer only so much is read as is asked for.
 * @throws Error that says why there is no answer, or that it is too large; in words that the owner of the job may read
 */
export async function postWebhook({
  url: text,
  headers,
  body,
  allowPrivate,
  timeoutMs,
  maxAnswerBytes = 0,
  signal,
  lookup,
}: PostOptions): Promise<WebhookAnswer> {
  const url = checkWebhookUrl(text, { allowPrivate });
  const request = url.protocol === 'https:' ? requestHttps : requestHttp;
  const bytes = Buffer.from(body);
  const timeout = AbortSignal.timeout(timeoutMs);
  const { signal: either, unlink } = linkSignals([signal, timeout]);
  const answered = new Promise<WebhookAnswer>((done, failWith) => {
    const fail = (error: Error) => failWith(timeout.aborted && !signal.aborted ? timedOut(timeoutMs) : error);
    const sent = request(
      url,
      {
        method: 'POST',
        headers: { ...headers, 'content-length': bytes.length },
        // Connections that are kept would go to an address that was checked for another delivery.
        agent: false,
        signal: either,
        // A host that is an address is not resolved, and was checked with the URL.
        ...(isIP(hostOf(url)) === 0 ? { lookup: checkedLookup(lookup ?? resolve, allowPrivate) } : {}),
      },
      (answer) => {
        const { statusCode: status = 0 } = answer;
        if (maxAnswerBytes > 0)
          return void boundedText(answer, maxAnswerBytes).then((text) => done({ status, body: text }), fail);
        done({ status, body: '' });
        answer.destroy();
      },
    );
    sent.once('error', fail);
    sent.end(bytes);
  });
  return await answered.finally(unlink);
}

function timedOut(timeoutMs: number): Error {
  return new Error(`There was no answer within ${timeoutMs / 1000} s.`);
}

/** Gives the addresses to connect to only if each of them is allowed. */
function checkedLookup(lookup: LookupFunction, allowPrivate: boolean): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error, []);
      const addresses = Array.isArray(found) ? found : [];
      const refused = allowPrivate ? undefined : addresses.find(({ address }) => !isPublicAddress(address));
      if (refused !== undefined) {
        return callback(new Error(`${hostname} is in a private network, to which this service sends nothing.`), []);
      }
      const [first] = addresses;
      if (first === undefined) return callback(new Error(`${hostname} has no address.`), []);
      if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

const PREFIX = 'whsec_';

/**
 * The headers of a message that is sent now, with the signature of Standard Webhooks (https://www.standardwebhooks.com).
 * @param secret - `whsec_` and base64.
 * @param body - JSON.
 */
export function webhookHeaders(secret: string, { id, body }: { id: string; body: string }): Record<string, string> {
  const seconds = Math.floor(Date.now() / 1000);
  const signature = createHmac('sha256', bytesOf(secret)).update(`${id}.${seconds}.${body}`).digest('base64');
  return {
    'content-type': 'application/json',
    'user-agent': `lorasmith/${PRODUCT_VERSION}`,
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': `v1,${signature}`,
  };
}

/**
 * The secret with which webhooks of a key's jobs are signed. Each key has its own, derived from that of the service, so that none can
 * forge those of another.
 * @param owner - null: jobs without a key
 */
export function secretOfOwner(secret: string, owner: Owner): string {
  const derived = createHmac('sha256', bytesOf(secret))
    .update(`webhooks of ${owner ?? ''}`)
    .digest('base64');
  return `${PREFIX}${derived}`;
}

function bytesOf(secret: string): Buffer {
  return Buffer.from(secret.slice(PREFIX.length), 'base64');
}

interface ClaimingOptions<Work> {
  /** The most work items that are under way at once. */
  atOnce: number;
  /** Claims a work item unless `isFull`; null once it has waited for one. */
  next(isFull: boolean, signal: AbortSignal): Promise<Work | null>;
  /** Does a work item. It does not reject. */
  attempt(work: Work, signal: AbortSignal): Promise<void>;
}

/**
 * Claims work items and does them, several at once.
 * @returns stops it: the signal aborts, and what is under way is awaited
 */
export function startClaiming<Work>({ atOnce, next, attempt }: ClaimingOptions<Work>): () => Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  const underWay = new Set<Promise<void>>();
  const run = async () => {
    while (!signal.aborted) {
      const work = await next(underWay.size >= atOnce, signal);
      if (work === null) continue;
      const one = attempt(work, signal).finally(() => underWay.delete(one));
      underWay.add(one);
    }
  };
  const running = run();
  return async () => {
    over.abort();
    await running;
    await Promise.all(underWay);
  };
}
