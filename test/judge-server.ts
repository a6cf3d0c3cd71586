import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text as streamText } from 'node:stream/consumers';

/** The words of a judge about two answers, in the order in which it sees them; or a function that answers in another way. */
export type Judging = (
  answers: readonly [first: string, second: string],
  message: string,
) => string | ((response: ServerResponse) => unknown);

/** Prefers the longer answer, wherever it stands. */
export const LONGER: Judging = ([first, second]) =>
  `Verdict: ${first.length === second.length ? 'tie' : first.length > second.length ? 'A' : 'B'}`;

/** Tokens that the server counts for each judgement. */
export const JUDGE_TOKENS = 7;

/** A server with the chat call of the OpenAI API, whose model compares two answers. It takes one key. */
export class JudgeServer {
  judging: Judging = LONGER;
  /** The messages that it has got. */
  messages: string[] = [];
  url = '';
  readonly #key: string;
  readonly #server: Server;

  constructor(key: string) {
    this.#key = key;
    this.#server = createServer((request, response) => {
      void streamText(request).then((body) => {
        const message = (JSON.parse(body) as { messages: [{ content: string }] }).messages[0].content;
        this.messages.push(message);
        const part = (name: string) => message.split(`[start of ${name}]\n`)[1]!.split(`\n[end of ${name}]`)[0]!;
        const said = this.judging([part('answer A'), part('answer B')], message);
        if (typeof said === 'function') return said(response);
        const isAllowed = request.headers.authorization === `Bearer ${this.#key}`;
        const answer = { choices: [{ message: { content: said } }], usage: { total_tokens: JUDGE_TOKENS } };
        return response.writeHead(isAllowed ? 200 : 401).end(JSON.stringify(answer));
      });
    });
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
    return this;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
