import { ProductError } from '@lorasmith/contracts';
import { type CallOptions, createHttpTransport } from './http-transport.js';

export interface CompletionsServerOptions {
  /** Address of the server's OpenAI-compatible API, for example `http://127.0.0.1:8000/v1`. */
  url: string;
  /** Sent as `Authorization: Bearer …`. */
  apiKey?: string | undefined;
  /** @defaultValue the global `fetch` */
  fetch?: typeof globalThis.fetch | undefined;
}

export interface NextToken {
  /** Null if the server returns only texts. */
  id: number | null;
  text: string;
  logprob: number;
}

export interface NextTokenAnswer {
  /** The generated token. */
  text: string;
  /** The most likely tokens, most likely first; null if the server returns no probabilities. */
  tokens: NextToken[] | null;
}

export interface CompletionsServer {
  /** Names of the models it serves. */
  models(call?: CallOptions): Promise<string[]>;
  /** Generates the token after a prompt, at temperature 0. */
  nextToken(model: string, prompt: { text: string; tokenIds: number[] }, call?: CallOptions): Promise<NextTokenAnswer>;
}

/** Requested probabilities; the maximum of OpenAI's API. */
const LOGPROBS = 5;

/**
 * A server with OpenAI's `POST /completions`: vLLM, llama.cpp, Ollama and others. Not all support every form: token ids
 * are tried first, because they are unambiguous, then text; probabilities are requested unless the server refuses them.
 */
export function createCompletionsServer({ url, apiKey, fetch }: CompletionsServerOptions): CompletionsServer {
  const transport = createHttpTransport({ baseUrl: url, apiKey, fetch });
  // Starts with the form that the server accepted last.
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

/** Reads both forms of probabilities: that of OpenAI's completions and that of its chat completions. */
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
