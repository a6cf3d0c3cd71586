import { ProductError } from '@lorasmith/contracts';
import type { CallOptions } from '../client.js';
import { createHttpTransport } from '../http-transport.js';

export interface CompletionsServerOptions {
  /** Where the server has its OpenAI-compatible API, for instance `http://127.0.0.1:8000/v1`. */
  url: string;
  /** Sent as `Authorization: Bearer …`. */
  apiKey?: string | undefined;
  /** @defaultValue the global `fetch` */
  fetch?: typeof globalThis.fetch | undefined;
}

export interface NextToken {
  /** Null where the server tells texts only. */
  id: number | null;
  text: string;
  logprob: number;
}

export interface NextTokenAnswer {
  /** What was generated: one token. */
  text: string;
  /** The most likely tokens, most likely first; null where the server tells no probabilities. */
  tokens: NextToken[] | null;
}

export interface CompletionsServer {
  /** Names of the models it serves. */
  models(call?: CallOptions): Promise<string[]>;
  /** The token after a prompt, at temperature 0. */
  nextToken(model: string, prompt: { text: string; tokenIds: number[] }, call?: CallOptions): Promise<NextTokenAnswer>;
}

/** Probabilities that are asked for; the most that OpenAI's API gives. */
const LOGPROBS = 5;

/**
 * A server with `POST /completions` as OpenAI has it: vLLM, llama.cpp, Ollama and others. Not all take everything: token
 * ids are sent first, as they leave no doubt about what is read, then the text; probabilities are asked for while the
 * server does not refuse that.
 */
export function createCompletionsServer({ url, apiKey, fetch }: CompletionsServerOptions): CompletionsServer {
  const transport = createHttpTransport({ baseUrl: url, apiKey, fetch });
  // What the server took last is asked again first.
  let accepted = 0;

  const complete = (body: object, { signal }: CallOptions) =>
    transport.json<unknown>({
      method: 'POST',
      path: '/completions',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal,
      repeatable: true,
    });

  return {
    async models(call = {}) {
      const answer = await transport.json<unknown>({ method: 'GET', path: '/models', signal: call.signal });
      const data = isRecord(answer) && Array.isArray(answer.data) ? answer.data : [];
      return data.flatMap((model) => (isRecord(model) && typeof model.id === 'string' ? [model.id] : []));
    },

    async nextToken(model, { text, tokenIds }, call = {}) {
      const common = { model, max_tokens: 1, temperature: 0 };
      const ways = [
        { ...common, prompt: tokenIds, logprobs: LOGPROBS },
        { ...common, prompt: text, logprobs: LOGPROBS },
        { ...common, prompt: text },
      ];
      for (;;) {
        try {
          return readAnswer(await complete(ways[accepted]!, call), transport.origin);
        } catch (error) {
          const refused = error instanceof ProductError && [400, 415, 422, 501].includes(error.status);
          if (!refused || accepted === ways.length - 1) throw error;
          accepted++;
        }
      }
    },
  };
}

function readAnswer(answer: unknown, origin: string): NextTokenAnswer {
  const choice: unknown = isRecord(answer) && Array.isArray(answer.choices) ? answer.choices[0] : undefined;
  if (!isRecord(choice) || typeof choice.text !== 'string') {
    const message = `${origin} did not answer as OpenAI's completions API does; is it the right address?`;
    throw new ProductError('service_unavailable', message);
  }
  return { text: choice.text, tokens: readTokens(choice.logprobs) };
}

/** Both ways in which servers tell probabilities: as OpenAI's completions do, and as its chat completions do. */
function readTokens(logprobs: unknown): NextToken[] | null {
  if (!isRecord(logprobs)) return null;
  let tokens: NextToken[] = [];
  if (Array.isArray(logprobs.top_logprobs) && isRecord(logprobs.top_logprobs[0])) {
    tokens = Object.entries(logprobs.top_logprobs[0]).flatMap(([text, logprob]) => tokenOf({ token: text, logprob }));
  } else if (Array.isArray(logprobs.content) && isRecord(logprobs.content[0])) {
    const { top_logprobs: top } = logprobs.content[0];
    tokens = (Array.isArray(top) ? top : []).flatMap(tokenOf);
  }
  return tokens.length === 0 ? null : tokens.sort((one, other) => other.logprob - one.logprob);
}

function tokenOf(token: unknown): NextToken[] {
  if (!isRecord(token) || typeof token.token !== 'string' || typeof token.logprob !== 'number') return [];
  return [{ id: typeof token.id === 'number' ? token.id : null, text: token.token, logprob: token.logprob }];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
