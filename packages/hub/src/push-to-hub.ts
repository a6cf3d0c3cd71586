import { ProductError } from '@lorasmith/contracts';
import { digestLike } from './download-file.js';
import { isNetworkError, networkCode } from './hub-errors.js';
import { createHubFetch, HubAnswerError, type HubFetch, HubProtocolError, type HubSettings } from './hub-fetch.js';
import { clientError, type HubFile, type HubRepository, openHubRepository, withRetries } from './hub-repository.js';
import { type SpanReader, StreamedBlob } from './streamed-blob.js';

/** A file that a push puts at the top of a repository. */
export interface PushedFile {
  name: string;
  bytes: number;
  sha256: string;
  read: SpanReader;
}

export interface HubPush {
  /** `ORG/NAME` of a model. */
  repository: string;
  branch: string;
  files: readonly PushedFile[];
  /** True if a repository that is made is private. */
  isPrivate: boolean;
  /** The title of the commit, in one line. */
  title: string;
}

export interface PushedCommit {
  /** The commit whose files were read back. */
  commit: string;
  /** False if the files were there already, so that nothing was committed. */
  isNew: boolean;
  /** The title of the commit that was there before; null: there was none, or it is not known. */
  titleBefore: string | null;
}

/** Files of models and adapters that an earlier push may have left, besides which a new one could not be loaded. */
const OF_MODELS = /^(adapter_config\.json|[^/]+\.safetensors(\.index\.json)?)$/;
/** Our `fetch` sends the right one, and to the hub alone. The hub's client wants one that begins so. */
const SENT_BY_FETCH = 'hf_sent-by-fetch';
/** A repository is made, and then its branch. */
const MAX_ROUNDS = 3;

/**
 * Makes the files those of a branch, in one commit, with which readers see all or none of them. The repository and the branch are made if
 * there are none. Without a change there is no commit. Afterwards the list of files is read, and the digests are compared.
 *
 * @param hub - With the token of the repository's owner.
 * @param signal - Ends all calls with its reason.
 * @throws ProductError `delivery_refused`, `delivery_not_verified`, `delivery_unreachable` with the time that the hub asked to wait; errors of `read`
 */
export async function pushToHub(
  push: HubPush,
  hub: HubSettings & { token: string },
  signal: AbortSignal,
): Promise<PushedCommit> {
  const subject = { kind: 'model' as const, repo: push.repository, revision: push.branch };
  const repository = await openHubRepository(subject, hub, signal, (error) => error);
  const http = createHubFetch(hub, signal);
  try {
    return await new Pusher(push, { hub, signal, repository, http }).run();
  } catch (error) {
    signal.throwIfAborted();
    throw explainedPush(clientError(error), push, hub);
  } finally {
    await Promise.allSettled([repository.close(), http.close()]);
  }
}

interface PusherOptions {
  hub: HubSettings;
  signal: AbortSignal;
  repository: HubRepository;
  http: HubFetch;
}

class Pusher {
  readonly #push: HubPush;
  readonly #options: PusherOptions;
  readonly #calls: { hubUrl: string; fetch: typeof globalThis.fetch };
  readonly #repo: { type: 'model'; name: string };
  /** The digests of the files as git has them, once they are needed. */
  readonly #gitDigests = new Map<string, string>();

  constructor(push: HubPush, options: PusherOptions) {
    this.#push = push;
    this.#options = options;
    this.#calls = { hubUrl: options.hub.endpoint, fetch: options.http.fetch };
    this.#repo = { type: 'model', name: push.repository };
  }

  async run(): Promise<PushedCommit> {
    await this.#checkToken();
    const head = await this.#head();
    const files = await this.#options.repository.files(head);
    const titleBefore = await this.#titleOf(head);
    if (await this.#isSame(files)) return { commit: head, isNew: false, titleBefore };
    await this.#commit(head, files);
    const { repository } = this.#options;
    const commit = await repository.commit();
    if (await this.#isSame(await repository.files(commit))) return { commit, isNew: true, titleBefore };
    const message = `${this.#where} does not answer with the files that were committed there. Somebody else may have changed it.`;
    throw new ProductError('delivery_not_verified', message);
  }

  /** A clear error before anything is sent. */
  async #checkToken(): Promise<void> {
    const { whoAmI } = await import('@huggingface/hub');
    const { auth } = await this.#ask(() => whoAmI({ ...this.#calls, accessToken: SENT_BY_FETCH }));
    if (auth?.accessToken?.role !== 'read') return;
    const message = `The stored token may only read at ${this.#calls.hubUrl}. Store one that may write (PUT /hub-token).`;
    throw new ProductError('delivery_refused', message);
  }

  /** The commit of the branch. The repository and the branch are made if there are none. */
  async #head(): Promise<string> {
    const { createBranch, createRepo } = await import('@huggingface/hub');
    const { branch, isPrivate, repository } = this.#push;
    for (let round = 1; ; round++) {
      try {
        return await this.#options.repository.commit();
      } catch (error) {
        if (!isMissing(error) || round === MAX_ROUNDS) throw error;
        if (error.code === 'RevisionNotFound') {
          await this.#ask(() => createBranch({ ...this.#calls, repo: this.#repo, branch })).catch(unlessThere);
          continue;
        }
        const visibility = isPrivate ? 'private' : 'public';
        const repo = { ...this.#calls, repo: this.#repo, visibility, accessToken: SENT_BY_FETCH } as const;
        await this.#ask(() => createRepo(repo)).catch((failure: unknown) => {
          // It is there, and the token does not see it: unless another process has made it since.
          unlessThere(failure);
          if (round === 1) return;
          throw new ProductError('delivery_refused', `The stored token may not use ${repository}, which is another's.`);
        });
      }
    }
  }

  async #titleOf(commit: string): Promise<string | null> {
    const { listCommits } = await import('@huggingface/hub');
    const asked = { ...this.#calls, repo: this.#repo, revision: commit, batchSize: 1 };
    const first = await this.#ask(async () => await listCommits(asked).next());
    return first.done ? null : String(first.value.title);
  }

  /** True if the repository has these files, and none of another model. */
  async #isSame(files: readonly HubFile[]): Promise<boolean> {
    if (this.#leftOver(files).length > 0) return false;
    const byName = new Map(files.map((file) => [file.name, file]));
    for (const file of this.#push.files) {
      const there = byName.get(file.name);
      if (there === undefined || there.bytes !== file.bytes) return false;
      const digest = there.digest.startsWith('sha256:') ? `sha256:${file.sha256}` : await this.#gitDigest(file, there);
      if (digest !== there.digest) return false;
    }
    return true;
  }

  async #gitDigest({ name, bytes, read }: PushedFile, { digest: like }: HubFile): Promise<string> {
    const known = this.#gitDigests.get(name);
    if (known !== undefined) return known;
    const hash = digestLike(like, bytes);
    if (bytes > 0) for await (const chunk of await read({ start: 0, end: bytes - 1 })) hash.update(chunk);
    const digest = hash.digest();
    this.#gitDigests.set(name, digest);
    return digest;
  }

  #leftOver(files: readonly HubFile[]): string[] {
    const own = new Set(this.#push.files.map(({ name }) => name));
    return files.map(({ name }) => name).filter((name) => OF_MODELS.test(name) && !own.has(name));
  }

  /** Uploads large files and commits all together, unless somebody else has committed since. */
  async #commit(parentCommit: string, files: readonly HubFile[]): Promise<void> {
    const { commit } = await import('@huggingface/hub');
    const { branch, title } = this.#push;
    const added = this.#push.files.map(({ name, bytes, read }) => ({
      operation: 'addOrUpdate' as const,
      path: name,
      content: new StreamedBlob(read, bytes),
    }));
    const deleted = this.#leftOver(files).map((path) => ({ operation: 'delete' as const, path }));
    await this.#ask(() =>
      commit({
        ...this.#calls,
        repo: this.#repo,
        branch,
        parentCommit,
        title,
        operations: [...added, ...deleted],
        // Not Xet: its chunks would have to be computed here, and the hub takes the same bytes without it.
        useXet: false,
        abortSignal: this.#options.signal,
      }),
    );
  }

  async #ask<Answer>(call: () => Promise<Answer>): Promise<Answer> {
    return await withRetries(call, this.#options.hub, this.#options.signal);
  }

  get #where(): string {
    return `${this.#push.repository} at ${this.#calls.hubUrl}`;
  }
}

function isMissing(error: unknown): error is HubAnswerError {
  return error instanceof HubAnswerError && (error.status === 404 || error.status === 401);
}

function unlessThere(error: unknown): void {
  if (!(error instanceof HubAnswerError && error.status === 409)) throw error;
}

/** Says what happened and what to do, without anything that the hub has written. Returns other errors unchanged. */
function explainedPush(error: unknown, { repository }: HubPush, { endpoint }: HubSettings): unknown {
  const unreachable = (message: string, retryAfterSeconds?: number) =>
    new ProductError('delivery_unreachable', message, { cause: error, retryAfterSeconds });
  if (error instanceof HubProtocolError) {
    return unreachable(`${endpoint} does not answer as a hub: ${error.message}.`);
  }
  if (error instanceof HubAnswerError) {
    const { status, isOfStore, retryAfterSeconds } = error;
    if (isOfStore) return unreachable(`The store of ${endpoint} did not take a file of ${repository} (${status}).`);
    if (status === 401) {
      const message = `${endpoint} does not accept the stored token. Store one that is valid and may write (PUT /hub-token).`;
      return new ProductError('delivery_refused', message, { cause: error });
    }
    if (status === 403) {
      const message = `The stored token may not write to ${repository}. Store a token that may (PUT /hub-token), or use another repository.`;
      return new ProductError('delivery_refused', message, { cause: error });
    }
    if (status === 409 || status === 412) return unreachable(`${repository} was changed by somebody else meanwhile.`);
    if (status === 404) return unreachable(`${repository} was not there when it was written to.`);
    if (status >= 500 || status === 429 || status === 408) {
      return unreachable(`${endpoint} answers ${status}.`, retryAfterSeconds ?? undefined);
    }
    return new ProductError(
      'delivery_refused',
      `${endpoint} refuses the files or the name ${repository} (${status}).`,
      {
        cause: error,
      },
    );
  }
  return isNetworkError(error) ? unreachable(`${endpoint} cannot be reached (${networkCode(error)}).`) : error;
}
