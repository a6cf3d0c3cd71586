import { isPrintable, ProductError } from '@lorasmith/contracts';
import { linkSignals, PRODUCT_VERSION } from '@lorasmith/service-kit';
import { boundedTextOf } from '../../bounded-text.js';

/** The times for the answers of a server, in milliseconds. */
export interface VllmTimeouts {
  /** The time for the list of its models, and for unloading. */
  answerMs: number;
  /** The time for loading an adapter. */
  loadMs: number;
  /** The time for all prompts of a probe together. */
  probeMs: number;
}

export const VLLM_TIMEOUTS: VllmTimeouts = { answerMs: 15_000, loadMs: 300_000, probeMs: 300_000 };

/** A model as the server lists it. */
export interface ServedModel {
  /** The path that it was loaded from, as the server sees it; null if it does not say. */
  root: string | null;
  isBase: boolean;
}

/** A list of some thousand models. */
const MAX_ANSWER_BYTES = 4 * 2 ** 20;
const MAX_QUOTED_CHARACTERS = 400;

/** The calls of vLLM with which adapters are loaded while it runs (https://docs.vllm.ai/en/latest/features/lora.html). */
export class VllmServer {
  readonly #url: string;
  readonly #key: string | null;
  readonly #timeouts: VllmTimeouts;

  /** @param url - without a slash at its end, and without `/v1` */
  constructor(url: string, { key, timeouts }: { key: string | null; timeouts: VllmTimeouts }) {
    this.#url = url;
    this.#key = key;
    this.#timeouts = timeouts;
  }

  /** The model of this name; null if the server has none. @throws ProductError `delivery_unreachable`, `delivery_refused` */
  async model(name: string, signal: AbortSignal): Promise<ServedModel | null> {
    const { status, text } = await this.#call('GET', '/v1/models', undefined, this.#timeouts.answerMs, signal);
    if (status !== 200) throw this.#refused(status, text);
    const models = modelsIn(text);
    if (models === null) {
      throw new ProductError(
        'delivery_refused',
        `${this.#url} does not list models as vLLM does. Is it the right address?`,
      );
    }
    const found = models.find(({ id }) => id === name);
    if (found === undefined) return null;
    return { root: typeof found.root === 'string' ? found.root : null, isBase: found.parent == null };
  }

  /**
   * Loads an adapter.
   * @param isServed - The name is served now, and its adapter is replaced.
   * @throws ProductError `delivery_unreachable`, `delivery_refused`
   */
  async load(name: string, path: string, isServed: boolean, signal: AbortSignal): Promise<void> {
    // vLLM 0.32 keeps the flag, and then reads the files again for each step of an answer: only where something is replaced.
    const body = { lora_name: name, lora_path: path, ...(isServed ? { load_inplace: true } : {}) };
    const { status, text } = await this.#call('POST', '/v1/load_lora_adapter', body, this.#timeouts.loadMs, signal);
    if (status !== 200) throw this.#refused(status, text);
  }

  /** Takes a name away. Harmless if the server does not have it. @throws ProductError `delivery_unreachable`, `delivery_refused` */
  async unload(name: string, signal: AbortSignal): Promise<void> {
    const body = { lora_name: name };
    const { status, text } = await this.#call('POST', '/v1/unload_lora_adapter', body, this.#timeouts.answerMs, signal);
    if (status !== 200 && !(status === 404 && messageIn(text) !== null)) throw this.#refused(status, text);
  }

  /** A `fetch` for the probe: it follows no redirection, and reads answers up to a limit. */
  readonly boundedFetch: typeof globalThis.fetch = async (input, init) => {
    const answer = await fetch(input, { ...init, redirect: 'error' });
    const text = await boundedTextOf(answer, MAX_ANSWER_BYTES);
    const { status, statusText, headers } = answer;
    return new Response(status === 204 || status === 304 ? null : text, { status, statusText, headers });
  };

  /** The address, and what is sent to prove the right to call it, for the probe. */
  get completions(): { url: string; apiKey: string | undefined; fetch: typeof globalThis.fetch } {
    return { url: `${this.#url}/v1`, apiKey: this.#key ?? undefined, fetch: this.boundedFetch };
  }

  /** The error for a server that has not answered in a useful way. */
  unreachable(why: string, cause?: unknown): ProductError {
    const message = `${this.#url} does not answer: ${this.#printable(why)}`;
    return new ProductError('delivery_unreachable', message, { cause });
  }

  async #call(method: 'GET' | 'POST', path: string, body: object | undefined, timeoutMs: number, signal: AbortSignal) {
    const timeout = AbortSignal.timeout(timeoutMs);
    const { signal: either, unlink } = linkSignals([signal, timeout]);
    const headers: Record<string, string> = { 'user-agent': `lorasmith/${PRODUCT_VERSION}` };
    if (this.#key !== null) headers.authorization = `Bearer ${this.#key}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const init = { method, headers, signal: either, redirect: 'error' as const };
    try {
      const answer = await fetch(
        `${this.#url}${path}`,
        body === undefined ? init : { ...init, body: JSON.stringify(body) },
      );
      return { status: answer.status, text: await boundedTextOf(answer, MAX_ANSWER_BYTES) };
    } catch (error) {
      signal.throwIfAborted();
      if (timeout.aborted) throw this.unreachable(`${path} took longer than ${timeoutMs / 1000} s`, error);
      throw this.unreachable(reasonOf(error), error);
    } finally {
      unlink();
    }
  }

  /** The error for an answer other than 200. */
  #refused(status: number, text: string): ProductError {
    const said = messageIn(text);
    if ([502, 503, 504].includes(status)) return this.unreachable(`it answered ${status}`);
    if (status === 401 || status === 403) {
      const message = `${this.#url} refuses the key of this service (${status}). Its operator has to set DELIVERY_SERVER_KEY.`;
      return new ProductError('delivery_refused', message);
    }
    if (status === 404 && said === null) {
      const message = `${this.#url} loads no adapters while it runs. Start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.`;
      return new ProductError('delivery_refused', message);
    }
    const words = said === null ? '' : `: ${this.#printable(said)}`;
    return new ProductError('delivery_refused', `${this.#url} refused the adapter (${status})${words}`);
  }

  /** Words of the server, cut and without its key. */
  #printable(text: string): string {
    const known = this.#key === null ? text : text.replaceAll(this.#key, '…');
    const printable = [...known].map((character) => (isPrintable(character) ? character : ' ')).join('');
    return printable.length > MAX_QUOTED_CHARACTERS ? `${printable.slice(0, MAX_QUOTED_CHARACTERS)}…` : printable;
  }
}

function reasonOf(error: unknown): string {
  const { cause = error } = error as { cause?: unknown };
  const { code, message = String(cause) } = cause as { code?: string; message?: string };
  return code ?? message;
}

/** The message of an error in the form of OpenAI's API, which FastAPI's own errors do not have; null for another text. */
function messageIn(text: string): string | null {
  const { error } = (jsonOf(text) ?? {}) as { error?: { message?: unknown } | null };
  return typeof error?.message === 'string' ? error.message : null;
}

function modelsIn(text: string): { id: unknown; root?: unknown; parent?: unknown }[] | null {
  const { data } = (jsonOf(text) ?? {}) as { data?: unknown };
  if (!Array.isArray(data)) return null;
  return data.filter((model): model is { id: unknown } => typeof model === 'object' && model !== null);
}

function jsonOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' ? value : null;
  } catch {
    return null;
  }
}
