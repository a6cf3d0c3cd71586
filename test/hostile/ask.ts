import { once } from 'node:events';
import { type OutgoingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ERROR_STATUS, type ErrorCode } from '../../packages/contracts/src/index.js';
import type { HostileStack } from './hostile-stack.js';

/** Text of a file beside the data, which no answer may ever contain. */
export const CANARY = 'canary-that-no-answer-may-show';

/** Longer than any answer takes; where one does not come, the case says so. */
const DEADLINE_MS = 60_000;

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

export interface Question {
  headers?: OutgoingHttpHeaders;
  body?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
}

type Stack = Pick<HostileStack, 'apiUrl' | 'root' | 'token'>;

/** Sends the request unchanged: `node:http` leaves paths with dots as they are, which `fetch` would normalize. */
export async function ask(stack: Stack, method: string, path: string, question: Question = {}): Promise<Answer> {
  const { body } = question;
  const headers = { ...(stack.token === null ? {} : { authorization: `Bearer ${stack.token}` }), ...question.headers };
  const { hostname, port } = new URL(stack.apiUrl);
  const asking = request({ hostname, port, method, path, headers, agent: false });
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const answered = once(asking, 'response', { signal });
  answered.catch(() => {});
  const sending =
    body === undefined || typeof body === 'string' || body instanceof Uint8Array
      ? Promise.resolve(void asking.end(body))
      : pipeline(Readable.from(body), asking);
  // A server may answer before it has read everything, and then close.
  sending.catch(() => {});
  asking.on('error', () => {});
  try {
    const [response] = await answered;
    const text = method === 'HEAD' ? '' : await textOf(response);
    return { status: response.statusCode, headers: response.headers, text };
  } finally {
    asking.destroy();
  }
}

/** What came of a question, as a {@link HostileCase} has it. Every refusal must be an ErrorBody. */
export async function outcomeOf(stack: Stack, ...question: [string, string, Question?]): Promise<string> {
  const { status, text } = await ask(stack, ...question);
  return outcome(stack, status, text);
}

/** A request that is written out, with the key of the stack if it has one and if it is a request at all. */
export function withKey({ token }: Pick<Stack, 'token'>, head: string): string {
  return token === null ? head : head.replace(/^([A-Z]+ \S+ HTTP\/1\.1\r\n)/, `$1authorization: Bearer ${token}\r\n`);
}

/**
 * Sends bytes as they are over a connection of their own, and reads to its end.
 *
 * @param pieces sent one after the other, each once the one before is on its way; null: the sender goes away
 * @returns every answer in the order it came, joined by ` + `; `closed` when there was none
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
    // So that each piece is a packet of its own.
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

function outcome({ root }: Stack, status: number, text: string): string {
  if (text.includes(CANARY)) return `${status} with the content of a file that is not ours to show`;
  if (status < 400) return String(status);
  if (text.includes(root)) return `${status} with a path of this host`;
  try {
    const { code, ...others } = JSON.parse(text).error;
    const isKnown = Object.hasOwn(ERROR_STATUS, code as ErrorCode);
    if (isKnown && Object.keys(others).join() === 'message,param,request_id,details') return `${status} ${code}`;
  } catch {
    // Said below.
  }
  return `${status} without an error body: ${text.slice(0, 100)}`;
}
