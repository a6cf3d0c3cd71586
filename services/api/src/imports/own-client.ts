import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { type Client, createClient } from '@lorasmith/client/core';
import { untilAborted } from '@lorasmith/concurrency';
import type { FastifyRequest, InjectOptions } from 'fastify';

/** The address in a call, of which only the path counts. */
const OWN_ADDRESS = 'http://127.0.0.1';

/** Headers of a request that say who sent it, and how it came. */
const OF_THE_CALLER = ['authorization', 'host', 'origin', 'sec-fetch-site'] as const;

/**
 * A client of this api itself that calls it without a connection, as the sender of a request: the same checks, quotas and errors apply as
 * to the sender's own calls.
 */
export function ownClient(request: FastifyRequest): Client {
  return createClient({ baseUrl: OWN_ADDRESS, fetch: ownFetch(request) });
}

function ownFetch({ server, headers: sent }: FastifyRequest): typeof fetch {
  const ofCaller = Object.fromEntries(
    OF_THE_CALLER.flatMap((name) => (sent[name] === undefined ? [] : [[name, sent[name]]])),
  );
  return async (input, init = {}) => {
    const { pathname, search } = new URL(String(input));
    const { body, signal } = init;
    const upload = body == null || typeof body === 'string' ? null : Readable.fromWeb(body as ReadableStream);
    const payload = typeof body === 'string' ? body : upload;
    const answer = await orAborted(signal, () =>
      server.inject({
        method: (init.method ?? 'GET') as NonNullable<InjectOptions['method']>,
        url: pathname + search,
        headers: { ...Object.fromEntries(new Headers(init.headers)), ...ofCaller },
        ...(payload === null ? {} : { payload }),
        payloadAsStream: true,
      }),
    ).finally(() => {
      // What a refused upload has not read is not fetched any more.
      upload?.destroy();
    });
    const headers = new Headers();
    for (const [name, value] of Object.entries(answer.headers)) {
      for (const one of [value].flat()) if (one !== undefined) headers.append(name, String(one));
    }
    const content = answer.statusCode === 204 ? null : (Readable.toWeb(answer.stream()) as ReadableStream<Uint8Array>);
    return new Response(content as Response['body'], { status: answer.statusCode, headers });
  };
}

/** The result of work. @throws the reason of the signal as soon as it is aborted */
async function orAborted<Result>(signal: AbortSignal | null | undefined, work: () => Promise<Result>): Promise<Result> {
  if (signal == null) return await work();
  signal.throwIfAborted();
  const result = await untilAborted(work(), signal);
  if (result === null) throw signal.reason;
  return result;
}
