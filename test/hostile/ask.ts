import { once } from 'node:events';
import { type OutgoingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ERRORS, type ErrorCode } from '../../packages/contracts/src/index.js';
import type { HostileStack } from './hostile-stack.js';

/** Content of a file outside the data folder. No answer may contain it. */
export const CANARY = 'canary-that-no-answer-may-show';

/** Longer than any answer takes. A case without an answer fails. */
const DEADLINE_MS = 60_000;

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

export interface RequestContent {
  headers?: OutgoingHttpHeaders;
  body?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
}

type Stack = Pick<HostileStack, 'apiUrl' | 'root' | 'token'>;

/** Sends a request with an unchanged path. `fetch` would normalize dots in it; `node:http` does not. */
export async function ask(stack: Stack, method: string, path: string, content: RequestContent = {}): Promise<Answer> {
  const { body } = content;
  const headers = { ...(stack.token === null ? {} : { authorization: `Bearer ${stack.token}` }), ...content.headers };
  const { hostname, port } = new URL(stack.apiUrl);
  const outgoing = request({ hostname, port, method, path, headers, agent: false });
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const answered = once(outgoing, 'response', { signal });
  answered.catch(() => {});
  const sending =
    body === undefined || typeof body === 'string' || body instanceof Uint8Array
      ? Promise.resolve(void outgoing.end(body))
      : pipeline(Readable.from(body), outgoing);
  // A server may answer and close the connection before it has read the complete body.
  sending.catch(() => {});
  outgoing.on('error', () => {});
  try {
    const [response] = await answered;
    const text = method === 'HEAD' ? '' : await textOf(response);
    return { status: response.statusCode, headers: response.headers, text };
  } finally {
    outgoing.destroy();
  }
}

/** The fields of an error, under `/v1` those of the OpenAI API. */
const ERROR_FIELDS = ['code', 'details', 'message', 'param', 'request_id'];
const OPENAI_ERROR_FIELDS = ['code', 'message', 'param', 'type'];
/** Codes that have another name there. */
const OPENAI_CODES = ['invalid_api_key', 'rate_limit_exceeded'];

/** The outcome of a request, in the form of a {@link HostileCase}. Every refusal must be an error body. */
export async function outcomeOf(stack: Stack, ...content: [string, string, RequestContent?]): Promise<string> {
  const { status, text } = await ask(stack, ...content);
  const [, path] = content;
  return outcome(stack, status, text, path.startsWith('/v1/') ? OPENAI_ERROR_FIELDS : ERROR_FIELDS);
}

/** Adds the API key of the stack, if it has one, to a request as text. Other text is unchanged. */
export function withKey({ token }: Pick<Stack, 'token'>, head: string): string {
  return token === null ? head : head.replace(/^([A-Z]+ \S+ HTTP\/1\.1\r\n)/, `$1authorization: Bearer ${token}\r\n`);
}

/**
 * Sends raw bytes over a new connection, and reads until it is closed.
 *
 * @param pieces sent one after the other, as separate packets; null closes the connection
 * @returns the outcomes of all answers in their order, joined by ` + `; `closed` if there was none
 */
export async function raw(stack: Stack, ...pieces: (string | Uint8Array | null)[]): Promise<string> {
  const { hostname, port } = new URL(stack.apiUrl);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.on('error', () => {});
  const deadline = setTimeout(() => socket.destroy(), DEADLINE_MS);
  const received: Buffer[] = [];
  socket.on('data', (chunk) => received.push(chunk));
  const closed = once(socket, 'close').catch(() => {});
  for (const piece of pieces) {
    if (socket.destroyed) break;
    if (piece === null) socket.destroy();
    else socket.write(typeof piece === 'string' ? withKey(stack, piece) : piece);
    // So that each piece is a separate packet.
    if (pieces.length > 1) await sleep(5);
  }
  await closed;
  clearTimeout(deadline);
  const answers = Buffer.concat(received)
    .toString('latin1')
    .split(/(?=HTTP\/1\.1 \d{3} )/);
  const outcomes = answers.filter(Boolean).map((answer) => {
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);
    return outcome(stack, status, answer.slice(answer.indexOf('\r\n\r\n') + 4));
  });
  return outcomes.join(' + ') || 'closed';
}

function outcome({ root }: Stack, status: number, text: string, fields: readonly string[] = ERROR_FIELDS): string {
  if (text.includes(CANARY)) return `${status} with the content of a secret file`;
  if (status < 400) return String(status);
  if (text.includes(root)) return `${status} with a path of this host`;
  try {
    const { error } = JSON.parse(text);
    const isKnown = Object.hasOwn(ERRORS, error.code as ErrorCode) || OPENAI_CODES.includes(error.code);
    if (isKnown && Object.keys(error).sort().join() === fields.join()) return `${status} ${error.code}`;
  } catch {
    // Reported below.
  }
  return `${status} without an error body: ${text.slice(0, 100)}`;
}
