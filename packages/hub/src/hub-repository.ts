import { setTimeout as sleep } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';
import { explained, type HubSubject, isTemporary, retryAfterOf } from './hub-errors.js';
import { createHubFetch, HubProtocolError, type HubSettings } from './hub-fetch.js';

/** A file of a repository at one commit. */
export interface HubFile {
  /** Its path in the repository. */
  name: string;
  bytes: number;
  /** `sha256:…` of a file that git stores elsewhere (LFS, Xet), `git-sha1:…` of any other. */
  digest: string;
}

/**
 * One repository of the hub, of a model or a dataset. Every call throws ProductError `hub_access_denied`, `hub_unavailable`, `hub_model_not_found` or
 * `hub_dataset_not_found`.
 */
export interface HubRepository {
  /** The commit of the revision. */
  commit(): Promise<string>;
  /** The files at this commit: of a model those at the top, of a dataset those in folders as well. */
  files(commit: string): Promise<HubFile[]>;
  /**
   * The bytes of a file from an offset on. Reading throws errors of the network, which `isTemporary` knows.
   * @returns `offset`: where the bytes start: 0 for a hub that sends no parts
   */
  read(commit: string, name: string, offset: number): Promise<{ offset: number; chunks: AsyncIterable<Uint8Array> }>;
  close(): Promise<void>;
}

/** More than any model has at the top of its repository. A dataset with more is not made of a few files of rows. */
const MAX_FILES = 10_000;
/** Limits, for docs/limits.md. */
export const repositoryLimits = {
  files: { value: MAX_FILES, unit: 'files', beyond: 'the pull fails' },
};
const ATTEMPTS = 5;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 60_000;

/**
 * Opens a repository of the hub through its official client.
 * @param signal - Ends all its calls with the signal's reason.
 * @param explain - The error to throw for one of a call. @defaultValue those of a pull
 */
export async function openHubRepository(
  subject: HubSubject,
  hub: HubSettings,
  signal: AbortSignal,
  explain: (error: unknown) => unknown = (error) => explained(error, subject, hub),
): Promise<HubRepository> {
  // Loaded only by a process that pulls.
  const { datasetInfo, fileDownloadInfo, listFiles, modelInfo } = await import('@huggingface/hub');
  const { fetch, close } = createHubFetch(hub, signal);
  const repo = { type: subject.kind, name: subject.repo };
  const recursive = subject.kind === 'dataset';
  const common = { hubUrl: hub.endpoint, fetch };

  const ask = async <Answer>(call: () => Promise<Answer>): Promise<Answer> => {
    try {
      return await withRetries(call, hub, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw explain(clientError(error));
    }
  };

  return {
    commit: () =>
      ask(async () => {
        const asked = { ...common, name: subject.repo, revision: subject.revision };
        const { sha } = recursive
          ? await datasetInfo({ ...asked, additionalFields: ['sha'] })
          : await modelInfo({ ...asked, additionalFields: ['sha'] });
        if (typeof sha === 'string' && /^[0-9a-f]{40}$/.test(sha)) return sha;
        throw new HubProtocolError('it names no commit for the revision');
      }),
    files: (commit) =>
      ask(async () => {
        const files: HubFile[] = [];
        let listed = 0;
        for await (const entry of listFiles({ ...common, repo, revision: commit, recursive })) {
          if (++listed > MAX_FILES) throw new HubProtocolError(`it lists more than ${MAX_FILES} files`);
          if (entry.type === 'file' && (recursive || !entry.path.includes('/'))) files.push(hubFileOf(entry));
        }
        return files;
      }),
    read: (commit, name, offset) =>
      ask(async () => {
        const info = await fileDownloadInfo({ ...common, repo, path: name, revision: commit });
        if (info === null) throw new HubProtocolError(`it has no file ${name}, which it lists`);
        const response = await fetch(info.url, offset === 0 ? {} : { headers: { range: `bytes=${offset}-` } });
        const from = response.headers.get('content-range')?.match(/^bytes (\d+)-/)?.[1];
        const start = response.status === 206 ? Number(from) : 0;
        if (start !== offset && start !== 0) {
          await response.body?.cancel();
          throw new HubProtocolError(`it does not send ${name} from byte ${offset} on`);
        }
        // Undici's streams can be iterated.
        return { offset: start, chunks: (response.body ?? []) as unknown as AsyncIterable<Uint8Array> };
      }),
    close,
  };
}

/** Tries a call again after temporary errors, with growing pauses. @throws the last error; the reason of the signal */
export async function withRetries<Answer>(
  call: () => Promise<Answer>,
  hub: HubSettings,
  signal: AbortSignal,
): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (signal.aborted || !isTemporary(error) || attempt === ATTEMPTS) throw error;
      await pause(error, attempt, hub, signal);
    }
  }
}

/** Waits before the next attempt: as long as the hub asked for, or longer each time. */
export async function pause(
  error: unknown,
  attempt: number,
  { retryMs = FIRST_WAIT_MS }: HubSettings,
  signal: AbortSignal,
): Promise<void> {
  const asked = (retryAfterOf(error) ?? 0) * 1000;
  await sleep(Math.min(Math.max(asked, retryMs * 2 ** (attempt - 1)), LONGEST_WAIT_MS), undefined, { signal });
}

interface ListedEntry {
  path: string;
  size: number;
  oid?: string | undefined;
  lfs?: { oid: string; size: number } | undefined;
}

function hubFileOf({ path, size, oid, lfs }: ListedEntry): HubFile {
  const bytes = lfs?.size ?? size;
  const digest = lfs === undefined ? `git-sha1:${oid}` : `sha256:${lfs.oid}`;
  const valid =
    typeof path === 'string' &&
    Number.isSafeInteger(bytes) &&
    bytes >= 0 &&
    /^(sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40})$/.test(digest);
  if (!valid) throw new HubProtocolError('its list of files has an entry without a size or digest');
  return { name: path, bytes, digest };
}

/** The error for an answer that the hub's client does not understand. */
export function clientError(error: unknown): unknown {
  if (error instanceof ProductError || !(error instanceof Error)) return error;
  const notUnderstood = error instanceof SyntaxError || error.name === 'InvalidApiResponseFormatError';
  const wrongShape = error instanceof TypeError && !/fetch failed|terminated/.test(error.message);
  return notUnderstood || wrongShape ? new HubProtocolError('its answer is not understood') : error;
}

/** The variables of the environment that say how the hub is reached. They are those of Hugging Face's own tools. */
export const HUB_VARIABLES = {
  endpoint: {
    variable: 'HF_ENDPOINT',
    pattern: '^https?://[A-Za-z0-9.:\\[\\]-]{1,253}/?$',
    fallback: 'https://huggingface.co',
    fault: 'is not an address such as https://host:port',
    read: (value: string) => value.replace(/\/$/, ''),
  },
  token: {
    variable: 'HF_TOKEN',
    pattern: '^[A-Za-z0-9_.-]{0,500}$',
    fallback: '',
    fault: 'is not a token: letters, digits and _.- are allowed',
    read: (value: string) => (value === '' ? null : value),
  },
  offline: {
    variable: 'HF_HUB_OFFLINE',
    pattern: '^(?:0|1|false|true|no|yes|off|on)$',
    fallback: '0',
    fault: 'is neither 0 nor 1',
    read: (value: string) => ['1', 'true', 'yes', 'on'].includes(value),
  },
};

/** The hub that an environment names. @throws ProductError `invalid_request` for a value that it cannot have */
export function hubOfEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): HubSettings & { offline: boolean } {
  const { endpoint, token, offline } = HUB_VARIABLES;
  return {
    endpoint: readVariable(endpoint, environment),
    token: readVariable(token, environment),
    offline: readVariable(offline, environment),
  };
}

interface HubVariable<Value> {
  variable: string;
  pattern: string;
  fallback: string;
  fault: string;
  read: (value: string) => Value;
}

function readVariable<Value>(
  { variable, pattern, fallback, fault, read }: HubVariable<Value>,
  environment: Readonly<Record<string, string | undefined>>,
): Value {
  // Some tools set an empty variable. It means none.
  const text = environment[variable] || fallback;
  if (new RegExp(pattern).test(text)) return read(text);
  throw new ProductError('invalid_request', `${variable} ${fault}.`, { param: variable });
}
