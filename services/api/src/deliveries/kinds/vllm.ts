import path from 'node:path';
import { type ProbeResult, probeServer } from '@lorasmith/client/core';
import {
  ADAPTER_FILES,
  AdapterId,
  type AdapterManifest,
  Nullable,
  ProductError,
  probeOf,
  type VllmTarget,
} from '@lorasmith/contracts';
import { linkSignals } from '@lorasmith/service-kit';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { CancelledError } from '../../leased-work.js';
import type { DeliveryFolder } from '../delivery-folder.js';
import type { DeliveryAttempt, DeliveryConfig, DeliveryKind } from '../delivery-kind.js';
import { VLLM_TIMEOUTS, VllmServer, type VllmTimeouts } from './vllm-server.js';

export interface VllmKindOptions {
  config: DeliveryConfig;
  /** Null: the operator has set none. */
  folder: DeliveryFolder | null;
  /** @defaultValue {@link VLLM_TIMEOUTS} */
  timeouts?: VllmTimeouts | undefined;
}

/** The path that a name was loaded from before an attempt changed that; null: the name did not exist. */
const KeptState = Type.Object({ before: Nullable(Type.String()) });
type KeptState = Static<typeof KeptState>;

/** The files that vLLM reads. */
const NAMES = [ADAPTER_FILES.config, ADAPTER_FILES.weights];
/** The folder of the files for servers. */
const FILES = 'servers';

/**
 * Delivers to a vLLM server that runs: the files go to a folder that it sees, it loads them under a name, and then the probe of the
 * adapter shows what it answers with. If that is not the adapter, the server loads again what the name had before.
 *
 * Each adapter has a path of its own, because vLLM takes stored prefixes for those of the same name and path. The files of the adapter
 * before stay until the next delivery: requests that began with it still read them.
 */
export function vllmKind({ config, folder, timeouts = VLLM_TIMEOUTS }: VllmKindOptions): DeliveryKind<VllmTarget> {
  const servers = config.servers.map(addressOf);
  const check = ({ url }: VllmTarget): { address: string; to: DeliveryFolder } => {
    const address = addressOf(url);
    if (folder === null) {
      throw invalid('This service delivers to no server: its operator has to set DELIVERY_FOLDER.', 'kind');
    }
    if (address === null || !servers.includes(address)) {
      const message =
        'This service does not call this server: its operator has to add the address to DELIVERY_SERVERS.';
      throw invalid(message, 'url');
    }
    return { address, to: folder };
  };
  return {
    placeOf: ({ url, name }) => `vllm ${addressOf(url) ?? url} ${name}`,
    check: (target) => void check(target),
    checkAdapter: (_, manifest) => checkProbe(manifest),
    checkOwner: async () => {},
    async deliver(target, attempt) {
      const { address, to } = check(target);
      checkProbe(attempt.manifest);
      const server = new VllmServer(address, { key: config.serverKey, timeouts });
      const onServer = config.folderOnServer ?? to.path;
      await new VllmDelivery(target, attempt, { address, server, to, onServer, timeouts }).run();
    },
  };
}

/** An address in one form: without a slash or `/v1` at its end, a usual port, or capitals in its host; null for none. */
function addressOf(url: string): string | null {
  if (!URL.canParse(url)) return null;
  const { protocol, origin, pathname, username, password, search, hash } = new URL(url);
  if (!['http:', 'https:'].includes(protocol) || `${username}${password}${search}${hash}` !== '') return null;
  return origin + pathname.replace(/\/+$/, '').replace(/\/v1$/, '');
}

function invalid(message: string, param?: string): ProductError {
  return new ProductError('invalid_delivery', message, { param });
}

/** @throws ProductError `invalid_delivery` for an adapter of which nothing could show that a server answers with it */
function checkProbe({ id, origin }: AdapterManifest): void {
  const probe = probeOf(origin);
  if (probe === null) {
    throw invalid(`${id} was imported. It has no probe, so nothing can show that a server answers with it.`);
  }
  if (probe.kind === 'class-scores') throw invalid(`${id} is of a classifier, which vLLM does not serve so.`);
  if (probe.cases.length === 0) {
    throw invalid(`The probe of ${id} is empty, so nothing can show that a server answers with it.`);
  }
}

interface VllmDeliveryOptions {
  address: string;
  server: VllmServer;
  to: DeliveryFolder;
  /** The path of the delivery folder on the server. */
  onServer: string;
  timeouts: VllmTimeouts;
}

/** One attempt. */
class VllmDelivery {
  readonly #target: VllmTarget;
  readonly #attempt: DeliveryAttempt;
  readonly #options: VllmDeliveryOptions;
  /** The adapters of this server and name, relative to the delivery folder. */
  readonly #place: string;

  constructor(target: VllmTarget, attempt: DeliveryAttempt, options: VllmDeliveryOptions) {
    this.#target = target;
    this.#attempt = attempt;
    this.#options = options;
    this.#place = path.join(FILES, options.address.replace(/[^A-Za-z0-9.-]+/g, '_'), target.name);
  }

  async run(): Promise<void> {
    const { server, to } = this.#options;
    const { name, layout } = this.#target;
    const { manifest, signal, keep, report } = this.#attempt;
    const served = await server.model(name, signal);
    if (served?.isBase) {
      throw new ProductError('delivery_refused', `${name} is the base model of the server. Use another name.`, {
        param: 'name',
      });
    }
    const before = this.#pathBefore(served?.root ?? null);
    const replaced = this.#adapterAt(before);
    report({ replaced });
    await to.copy({ id: manifest.id, form: { layout }, names: NAMES }, path.join(this.#place, manifest.id), signal);
    // Before anything changes: whoever resumes this attempt must know what to load again.
    await keep({ before } satisfies KeptState);
    signal.throwIfAborted();
    try {
      await server.load(name, this.#pathOnServer(manifest.id), served !== null, signal);
    } catch (error) {
      // One that is refused has changed nothing: vLLM replaces an adapter only after it has read the new one.
      const isRefused = error instanceof ProductError && error.code === 'delivery_refused';
      throw isRefused ? error : await this.#restored(before, error);
    }
    await this.#probe().catch(async (error: unknown) => {
      throw await this.#restored(before, error);
    });
    await to.keepOnly(this.#place, replaced === null ? [manifest.id] : [manifest.id, replaced]);
  }

  /** @throws ProductError `delivery_not_verified`, `delivery_unreachable`, `delivery_refused` */
  async #probe(): Promise<void> {
    const { manifest, report, signal } = this.#attempt;
    const { verdict, adapter_distance, base_distance } = await this.#answers();
    signal.throwIfAborted();
    report({ probe: { verdict, adapter_distance, base_distance } });
    if (verdict === 'adapter') return;
    throw new ProductError('delivery_not_verified', `The server loaded ${manifest.id}, but ${VERDICTS[verdict]}.`);
  }

  async #answers(): Promise<ProbeResult> {
    const { server, timeouts } = this.#options;
    const { manifest, signal } = this.#attempt;
    const { name } = this.#target;
    const timeout = AbortSignal.timeout(timeouts.probeMs);
    const { signal: either, unlink } = linkSignals([signal, timeout]);
    try {
      return await probeServer(manifest, { ...server.completions, model: name, signal: either });
    } catch (error) {
      signal.throwIfAborted();
      if (timeout.aborted) throw server.unreachable(`the probe took longer than ${timeouts.probeMs / 1000} s`, error);
      const { status = 0 } = error as { status?: number };
      // It was restarted, for example, and has forgotten the adapter.
      if (status === 404) throw server.unreachable(`it no longer has the model ${name} that it has just loaded`, error);
      const why = error instanceof Error ? error.message : String(error);
      if (status === 0 || status >= 500) throw server.unreachable(`the probe had no answer (${why})`, error);
      throw new ProductError('delivery_refused', `The server refused the prompts of the probe (${status}).`, {
        cause: error,
      });
    } finally {
      unlink();
    }
  }

  /** Loads what the name had before, or takes the name away. @returns the error, which says so */
  async #restored(before: string | null, error: unknown): Promise<unknown> {
    const { server } = this.#options;
    const { manifest, signal, log } = this.#attempt;
    const { name } = this.#target;
    const isCancelled = signal.reason instanceof CancelledError;
    // Whoever takes over starts again, and knows what was there before.
    if (signal.aborted && !isCancelled) return error;
    if (before === this.#pathOnServer(manifest.id)) return error;
    // Not that of the attempt, which may be aborted. Each call has a limit of its own.
    const { signal: own } = new AbortController();
    try {
      if (before === null) await server.unload(name, own);
      else await server.load(name, before, (await server.model(name, own)) !== null, own);
    } catch (cause) {
      log.warn({ err: cause }, 'what the server had before a delivery could not be loaded again');
      const what =
        before === null ? `The name ${name} could not be unloaded` : 'What it had before could not be loaded again';
      const why = `${what}: ${(cause as Error).message}`;
      return isCancelled ? new ProductError('delivery_unreachable', `It was cancelled. ${why}`) : withMore(error, why);
    }
    if (before === null) return error;
    return withMore(error, `The server has loaded ${this.#adapterAt(before) ?? 'what it had before'} again.`);
  }

  /** The path that the name had before this delivery. @param now - what it has now */
  #pathBefore(now: string | null): string | null {
    const { state, manifest } = this.#attempt;
    const kept = Value.Check(KeptState, state) ? state : null;
    // An attempt that was interrupted has loaded this adapter, or the server was restarted since.
    if (kept !== null && (now === null || now === this.#pathOnServer(manifest.id))) return kept.before;
    return now;
  }

  #pathOnServer(adapter: AdapterId): string {
    return path.posix.join(this.#options.onServer, this.#place, adapter);
  }

  /** The adapter whose files a delivery has put there; null for another path. */
  #adapterAt(place: string | null): AdapterId | null {
    const id = place === null ? '' : path.posix.basename(place);
    return Value.Check(AdapterId, id) && place === this.#pathOnServer(id) ? id : null;
  }
}

const VERDICTS: Readonly<Record<Exclude<ProbeResult['verdict'], 'adapter'>, string>> = {
  base: 'answers as the base model does, without it',
  neither:
    'answers neither as the adapter nor as its base model does: it may serve another base model, or this one in another precision',
  undecided: 'adapter and base model are too similar on its probe to tell which of them answers',
};

/** The error with a further sentence. */
function withMore(error: unknown, sentence: string): unknown {
  if (!(error instanceof ProductError)) return error;
  const { code, message, param } = error;
  return new ProductError(code, `${message.replace(/\.?$/, '.')} ${sentence}`, { param, cause: error });
}
