import { lookup as resolve } from 'node:dns';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { isPublicAddress } from './public-address.js';
import { checkWebhookUrl, hostOf } from './webhook-url.js';

export interface PostOptions {
  url: string;
  headers: Readonly<Record<string, string>>;
  body: string;
  allowPrivate: boolean;
  /** The time for all of it: resolving, connecting, sending, and the answer's status. */
  timeoutMs: number;
  signal: AbortSignal;
  /** @defaultValue that of the system */
  lookup?: LookupFunction;
}

/**
 * Sends a webhook. The connection goes to an address that was checked: a name that resolves to an address of a private network is
 * refused, whatever it resolved to before. Redirections are not followed, and nothing of the answer but its status is read.
 * @returns the status of the answer
 * @throws Error that says why there is none
 */
export async function postWebhook({
  url: text,
  headers,
  body,
  allowPrivate,
  timeoutMs,
  signal,
  lookup,
}: PostOptions): Promise<number> {
  const url = checkWebhookUrl(text, { allowPrivate });
  const request = url.protocol === 'https:' ? requestHttps : requestHttp;
  const bytes = Buffer.from(body);
  return await new Promise((done, fail) => {
    const sent = request(
      url,
      {
        method: 'POST',
        headers: { ...headers, 'content-length': bytes.length },
        // Connections that are kept would go to an address that was checked for another delivery.
        agent: false,
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
        // A host that is an address is not resolved, and was checked with the URL.
        ...(isIP(hostOf(url)) === 0 ? { lookup: checkedLookup(lookup ?? resolve, allowPrivate) } : {}),
      },
      (answer) => {
        done(answer.statusCode ?? 0);
        answer.destroy();
      },
    );
    sent.once('error', (error) => fail(signal.aborted || error.name !== 'AbortError' ? error : timedOut(timeoutMs)));
    sent.end(bytes);
  });
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
        return callback(new Error(`${hostname} is in a private network (${refused.address}).`), []);
      }
      const [first] = addresses;
      if (first === undefined) return callback(new Error(`${hostname} has no address.`), []);
      if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}
