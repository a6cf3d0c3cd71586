import { type AdapterManifest, type ProbeCase, type ProbeToken, ProductError, probeOf } from '@lorasmith/contracts';
import { type CallOptions, createHttpTransport } from './http-transport.js';

interface CompletionsServerOptions {
  /** Address of the server's OpenAI-compatible API, for example `http://127.0.0.1:8000/v1`. */
  url: string;
  /** Sent as `Authorization: Bearer …`. */
  apiKey?: string | undefined;
  /** @defaultValue the global `fetch` */
  fetch?: typeof globalThis.fetch | undefined;
}

interface NextToken {
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

interface CompletionsServer {
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
function createCompletionsServer({ url, apiKey, fetch }: CompletionsServerOptions): CompletionsServer {
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

export interface ProbeServerOptions extends CompletionsServerOptions, CallOptions {
  /** Name of the model on the server. @defaultValue the only one it serves, or the one with the adapter's id or name */
  model?: string | undefined;
  /** See {@link judgeProbe}. @defaultValue 0.5 */
  tolerance?: number | undefined;
}

export interface ProbeResult extends ProbeJudgement {
  adapter: string;
  /** Name of the model on the server. */
  model: string;
}

/**
 * Sends the prompts of an adapter's probe to a server, and judges whether it answers as the adapter does.
 *
 * @throws ProductError `not_found` when the manifest has no such probe, `invalid_request` when it is not clear which model
 * to use; errors of the server
 */
export async function probeServer(manifest: AdapterManifest, options: ProbeServerOptions): Promise<ProbeResult> {
  const probe = probeOf(manifest.origin);
  if (probe === null) throw noProbe(manifest, 'it was imported, not trained here');
  if (probe.kind === 'class-scores')
    throw noProbe(manifest, 'it is the probe of a classifier, which does not complete text');
  if (probe.cases.length === 0) throw noProbe(manifest, 'its prompts could not be tokenized');
  const server = createCompletionsServer(options);
  const model = options.model ?? (await onlyModel(await server.models(options), manifest));
  const answers: NextTokenAnswer[] = [];
  // One at a time: small servers answer concurrent requests slowly or not at all.
  for (const { prompt, token_ids } of probe.cases) {
    answers.push(await server.nextToken(model, { text: prompt, tokenIds: token_ids }, options));
  }
  return { adapter: manifest.id, model, ...judgeProbe(probe.cases, answers, options.tolerance) };
}

function noProbe({ id }: AdapterManifest, reason: string): ProductError {
  return new ProductError('not_found', `The manifest of ${id} has no probe for a completions server: ${reason}.`);
}

async function onlyModel(models: readonly string[], { id, name }: AdapterManifest): Promise<string> {
  const named = models.find((model) => model === id || model === name);
  if (named !== undefined) return named;
  if (models.length === 1) return models[0]!;
  const served = models.length === 0 ? 'The server lists no models' : `The server has ${models.join(', ')}`;
  throw new ProductError('invalid_request', `${served}: select one with --model.`, { param: 'model' });
}

/**
 * `adapter`: the server answers as the base with the adapter. `base`: as the base alone. `neither`: as none of the two.
 * `undecided`: base and adapter are too similar for the probe, or the server ended every text.
 */
export type ProbeVerdict = 'adapter' | 'base' | 'neither' | 'undecided';

export interface JudgedCase {
  prompt: string;
  /** The token of the server, and the expected ones. */
  answered: string;
  adapter: string;
  base: string;
}

export interface ProbeJudgement {
  verdict: ProbeVerdict;
  /**
   * Root mean square difference between the server's log-probabilities and those of the base with the adapter, and of the
   * base alone. Null if the server returns none, so only texts were compared.
   */
  adapter_distance: number | null;
  base_distance: number | null;
  cases: JudgedCase[];
}

/** Another dtype, other kernels or an 8-bit format change a log-probability by up to some tenths. */
export const DEFAULT_TOLERANCE = 0.5;
/** If both fit, one must be nearer by this factor. */
const CLEARLY_NEARER = 2;
/** Tokens that a probe stores for base and for adapter. */
const TOP_TOKENS = 5;
/** Rounding may swap two tokens that differ by less. */
const CLEAR_LEAD = 0.3;

/**
 * Compares the answers of a server with the probe of a manifest.
 * @param tolerance - Limit for a distance that fits.
 */
export function judgeProbe(
  cases: readonly ProbeCase[],
  answers: readonly NextTokenAnswer[],
  tolerance: number = DEFAULT_TOLERANCE,
): ProbeJudgement {
  const judged = cases.map((one, index) => judgedCase(one, answers[index]!));
  const returned = answers.map(({ tokens }) => tokens);
  // A server that ends a text answers with nothing, and gives no log-probabilities for it.
  const isSilent = answers.map(({ text, tokens }) => text === '' && tokens === null);
  if (returned.every((tokens, i) => tokens !== null || isSilent[i]) && !isSilent.every(Boolean)) {
    const distance = (of: LogprobOf) =>
      rootMeanSquare(cases.flatMap((one, i) => (isSilent[i] ? [] : differences(one, returned[i]!, of))));
    const adapter_distance = distance((token) => token.adapter_logprob);
    const base_distance = distance((token) => token.base_logprob);
    const verdict = nearest(adapter_distance, base_distance, tolerance);
    return { verdict, adapter_distance, base_distance, cases: judged };
  }
  const heard = <Item>(all: readonly Item[]) => all.filter((_, i) => !isSilent[i]);
  return { verdict: byWords(heard(cases), heard(judged)), adapter_distance: null, base_distance: null, cases: judged };
}

type LogprobOf = (token: ProbeToken) => number;

function judgedCase({ prompt, next_tokens }: ProbeCase, { text, tokens }: NextTokenAnswer): JudgedCase {
  return {
    prompt,
    answered: tokens?.[0]?.text ?? text,
    adapter: firstBy(next_tokens, (token) => token.adapter_logprob).text,
    base: firstBy(next_tokens, (token) => token.base_logprob).text,
  };
}

function nearest(adapter: number, base: number, tolerance: number): ProbeVerdict {
  const fitsAdapter = adapter <= tolerance;
  const fitsBase = base <= tolerance;
  if (!fitsAdapter && !fitsBase) return 'neither';
  if (fitsAdapter && (!fitsBase || adapter * CLEARLY_NEARER <= base)) return 'adapter';
  if (fitsBase && (!fitsAdapter || base * CLEARLY_NEARER <= adapter)) return 'base';
  return 'undecided';
}

/**
 * One difference per token of either side. A token that one side lacks is known only to be less likely there than the
 * last token of that side.
 */
function differences({ next_tokens: expected }: ProbeCase, returned: readonly NextToken[], of: LogprobOf): number[] {
  const leastReturned = Math.min(...returned.map(({ logprob }) => logprob));
  // The list has the top tokens of base and adapter. A model's tokens below its own top ones are not its next most likely.
  const leastExpected = expected.map(of).sort((one, other) => other - one)[Math.min(TOP_TOKENS, expected.length) - 1]!;
  const pairs = pairsOf(expected, returned, of);
  const own = expected.flatMap((token) => {
    const match = pairs.get(token);
    if (match !== undefined) return [match.logprob - of(token)];
    // Hidden by another token with the same text, if the server returns only texts.
    if (returned.some(({ id, text }) => id === null && plain(text) === plain(token.text))) return [];
    return [Math.max(0, of(token) - leastReturned)];
  });
  const paired = new Set(pairs.values());
  const others = returned
    .filter((token) => !paired.has(token))
    .map(({ logprob }) => Math.max(0, logprob - leastExpected));
  return [...own, ...others];
}

/**
 * Matches the returned tokens with the expected ones: by id if the server returns it, otherwise by text. Of several with the
 * same text (` I` and `I`), the nearest ones match.
 */
function pairsOf(
  expected: readonly ProbeToken[],
  returned: readonly NextToken[],
  of: LogprobOf,
): Map<ProbeToken, NextToken> {
  // Some servers omit spaces. Then texts with and without one match.
  const bothSpaced = [expected, returned].every((tokens) => tokens.some(({ text }) => spaced(text).startsWith(' ')));
  const same: ((one: NextToken, token: ProbeToken) => boolean)[] = [
    ({ id }, token) => id === token.id,
    ({ id, text }, token) => bothSpaced && id === null && spaced(text) === spaced(token.text),
    ({ id, text }, token) => id === null && plain(text) === plain(token.text),
  ];
  const pairs = new Map<ProbeToken, NextToken>();
  for (const isSame of same) {
    const free = returned.filter((one) => ![...pairs.values()].includes(one));
    const alike = expected
      .filter((token) => !pairs.has(token))
      .flatMap((token) => free.filter((one) => isSame(one, token)).map((one) => ({ token, one })))
      .sort((a, b) => Math.abs(a.one.logprob - of(a.token)) - Math.abs(b.one.logprob - of(b.token)));
    const taken = new Set<NextToken>();
    for (const { token, one } of alike) {
      if (pairs.has(token) || taken.has(one)) continue;
      pairs.set(token, one);
      taken.add(one);
    }
  }
  return pairs;
}

/** Replaces the marks for spaces in vocabularies with spaces. */
function spaced(text: string): string {
  return text.replace(/[▁Ġ]/g, ' ');
}

function plain(text: string): string {
  return spaced(text).trim();
}

function byWords(cases: readonly ProbeCase[], judged: readonly JudgedCase[]): ProbeVerdict {
  const says = (what: 'adapter' | 'base') => judged.map((one) => plain(one.answered) === plain(one[what]));
  const [asAdapter, asBase] = [says('adapter'), says('base')];
  const decisive = cases.flatMap((one, index) => (isDecisive(one) ? [index] : []));
  if (decisive.length === 0) return asAdapter.some(Boolean) || cases.length === 0 ? 'undecided' : 'neither';
  if (decisive.every((index) => asAdapter[index])) return 'adapter';
  if (decisive.every((index) => asBase[index])) return 'base';
  return 'neither';
}

/** True if base and adapter clearly differ. */
function isDecisive({ next_tokens: tokens }: ProbeCase): boolean {
  const byAdapter = firstBy(tokens, (token) => token.adapter_logprob);
  const byBase = firstBy(tokens, (token) => token.base_logprob);
  const leadOfAdapter = byAdapter.adapter_logprob - byBase.adapter_logprob;
  const leadOfBase = byBase.base_logprob - byAdapter.base_logprob;
  return byAdapter.id !== byBase.id && leadOfAdapter >= CLEAR_LEAD && leadOfBase >= CLEAR_LEAD;
}

function firstBy(tokens: readonly ProbeToken[], of: LogprobOf): ProbeToken {
  return tokens.reduce((first, token) => (of(token) > of(first) ? token : first));
}

function rootMeanSquare(values: readonly number[]): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / Math.max(1, values.length));
}
