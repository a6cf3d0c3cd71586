import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export interface ReceivedRequest {
  method: string;
  url: string;
  headers: IncomingMessage['headers'];
  body: string;
}

export type Answer = (response: ServerResponse, request: ReceivedRequest) => void | Promise<void>;

export interface TestServer {
  baseUrl: string;
  /** Every request so far, in order. */
  requests: ReceivedRequest[];
  /** Also called at the end of the test. */
  close(): Promise<void>;
}

/**
 * An HTTP server on a free port, until the end of the test. Each request gets the next of `answers`; the last one repeats.
 */
export async function serve(...answers: Answer[]): Promise<TestServer> {
  const requests: ReceivedRequest[] = [];
  const receive = async (incoming: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const request = {
      method: incoming.method ?? '',
      url: incoming.url ?? '',
      headers: incoming.headers,
      body: Buffer.concat(chunks).toString(),
    };
    const answer = answers[Math.min(requests.length, answers.length - 1)];
    requests.push(request);
    await answer?.(response, request);
  };
  const server = createServer((incoming, response) => void receive(incoming, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(close);
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, close };
}

/** Answers with JSON. */
export function json(status: number, body: unknown): Answer {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
}

/** Answers as the product does for an error. */
export function failure(status: number, code: string, details: object[] = []): Answer {
  return json(status, { error: { code, message: `It is ${code}.`, param: null, request_id: 'req_1', details } });
}

/** Closes the connection without an answer. */
export const hangUp: Answer = (response) => {
  response.destroy();
};
