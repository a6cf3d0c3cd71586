import { ProductError } from '@lorasmith/contracts';
import { HubAnswerError, HubProtocolError, type HubSettings } from './hub-fetch.js';

/** The repository of a request, for messages. */
export interface HubSubject {
  kind: 'model' | 'dataset';
  repo: string;
  revision: string;
}

/** Words of messages that depend on the kind of a repository. */
const WORDS = {
  model: {
    path: '',
    notFound: 'hub_model_not_found',
    privately: 'the puller needs a token in HF_TOKEN that may read it',
    setToken: 'set HF_TOKEN of the puller to a token of that account and start it again',
    again: 'What has arrived is kept: pull it again later.',
  },
  dataset: {
    path: 'datasets/',
    notFound: 'hub_dataset_not_found',
    privately: 'set HF_TOKEN to a token that may read it',
    setToken: 'set HF_TOKEN to a token of that account',
    again: 'Pull it again later.',
  },
} as const;

/** The address of a repository on the hub, for people. */
export function hubAddress({ kind, repo }: Pick<HubSubject, 'kind' | 'repo'>, { endpoint }: HubSettings): string {
  return `${endpoint}/${WORDS[kind].path}${repo}`;
}

/** True if the same request may succeed a moment later. */
export function isTemporary(error: unknown): boolean {
  if (error instanceof ProductError || error instanceof HubProtocolError) return false;
  if (error instanceof HubAnswerError) return error.status >= 500 || error.status === 429 || error.status === 408;
  return isNetworkError(error);
}

/** Seconds after which to ask again, if the hub has said so. */
export function retryAfterOf(error: unknown): number | null {
  return error instanceof HubAnswerError ? error.retryAfterSeconds : null;
}

/** Says what happened and what to do, without anything that the hub has written. Returns other errors unchanged. */
export function explained(error: unknown, subject: HubSubject, hub: HubSettings): unknown {
  const { kind, repo, revision } = subject;
  const { endpoint, token } = hub;
  const words = WORDS[kind];
  if (error instanceof HubProtocolError) {
    return new ProductError('hub_unavailable', `${endpoint} does not answer as a hub: ${error.message}.`, {
      cause: error,
    });
  }
  if (error instanceof HubAnswerError) {
    const { status, code } = error;
    if (status === 401 || status === 403) {
      return new ProductError('hub_access_denied', deniedMessage(subject, code, hub), { cause: error });
    }
    if (status === 404) {
      const message =
        code === 'RevisionNotFound' || code === 'EntryNotFound'
          ? `${repo} has no revision ${JSON.stringify(revision)} at ${endpoint}, or not all of its files.`
          : `There is no ${kind} ${repo} at ${endpoint}. If it is private, ${words.privately}.`;
      return new ProductError(words.notFound, message, { cause: error });
    }
    const busy = status === 429 ? ' It limits calls: wait, or set HF_TOKEN, which raises the limit.' : '';
    return new ProductError('hub_unavailable', `${endpoint} answers ${status}.${busy} Pull it again later.`, {
      cause: error,
    });
  }
  if (!isNetworkError(error)) return error;
  const message =
    `${endpoint} cannot be reached (${networkCode(error)}). ${words.again} ` +
    `HF_ENDPOINT names another hub${token === null ? '' : ', which would receive HF_TOKEN'}.`;
  return new ProductError('hub_unavailable', message, { cause: error });
}

function deniedMessage(subject: HubSubject, code: string, hub: HubSettings): string {
  const { kind, repo } = subject;
  const terms = `accept its terms at ${hubAddress(subject, hub)}`;
  if (hub.token !== null) {
    return `The token in HF_TOKEN may not read ${repo}. If it is gated, ${terms} with the account of the token; otherwise set another token.`;
  }
  // Without a token, the hub answers the same for a private repository and for none.
  const what = code === 'GatedRepo' ? 'is gated: ' : 'does not exist, or is private or gated. If it is gated, ';
  return `${repo} ${what}${terms}, then ${WORDS[kind].setToken}.`;
}

/** The codes of Node and undici for a connection that failed. */
export function networkCode(error: unknown): string {
  for (let one: unknown = error; one instanceof Error; one = one.cause) {
    if ('code' in one && typeof one.code === 'string') return one.code;
  }
  return 'no connection';
}

/** `fetch` throws a TypeError whose cause is the network's error; a body that breaks off throws that error, or `terminated`. */
export function isNetworkError(error: unknown): boolean {
  if (!(error instanceof Error) || error.name === 'AbortError') return false;
  if (error instanceof TypeError && /fetch failed|terminated/.test(error.message)) return true;
  return /^(ECONN|EPIPE|ENOTFOUND|EAI_|ENET|EHOST|ETIMEDOUT|UND_ERR_)/.test(networkCode(error));
}
