import { readManifestOfFolder, readSnapshot } from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import { pause, untilAborted } from '@lorasmith/concurrency';
import {
  type AdapterId,
  type GenerationFailure,
  type MachineProfile,
  ProductError,
  type SnapshotId,
  trainedPrecision,
} from '@lorasmith/contracts';
import { onLoad, openBaseModel } from '@lorasmith/model-folder';
import type { ClaimedRequest, GenerationServer } from '@lorasmith/queue';
import { linkSignals } from '@lorasmith/service-kit';
import { asStorageError, type BundleStore } from '@lorasmith/storage';
import type { Logger } from 'pino';
import type { GenerationOrder } from '../trainer/messages.js';
import type { TrainerPool } from '../trainer/trainer-pool.js';
import type { GenerationResult } from '../trainer/trainer-process.js';
import type { SharedBase } from '../trainer/warm-trainer.js';
import type { GenerationMetrics, GenerationOutcome } from '../worker-metrics.js';

export interface AnswerRequestsOptions {
  server: GenerationServer;
  pool: Pick<TrainerPool, 'generatableModel' | 'onChange' | 'lease'>;
  models: ModelSource;
  adapters: BundleStore;
  /** Adapters of models in training. */
  snapshots: BundleStore;
  machine: MachineProfile | null;
  /** Folder in which digests of weights are remembered. */
  weightDigests: string;
  log: Logger;
  metrics: GenerationMetrics;
  /** The most requests at once. */
  atOnce: number;
  /** The time of a request, loading the base model included. */
  timeoutMs: number;
}

/** The start of the ids of snapshots. */
const SNAPSHOT_PREFIX = 'sn_';
/** The time between two looks for requests without a notice. */
const LOOK_MS = 1_000;
/** The pause after an error of Redis. */
const PAUSE_MS = 1_000;

/**
 * Answers requests for text of the base model that the trainer has, or, while it has no job, of any. Each leases the trainer
 * only while it is answered, and none is taken while a job waits for another base model.
 *
 * @returns ends all answers and takes no more
 */
export function answerRequests(options: AnswerRequestsOptions): () => Promise<void> {
  const { server, pool, log, atOnce } = options;
  const stopping = new AbortController();
  const open = new Set<Promise<void>>();
  let wake = () => {};
  const endListening = pool.onChange(() => wake());

  const claim = async (): Promise<ClaimedRequest | null> => {
    const now = open.size < atOnce ? pool.generatableModel() : null;
    return now === null ? null : await server.claim(now.baseModel);
  };
  const look = async () => {
    // Stopping wakes it, too: on Node 20 a signal that lives as long as the worker never forgets what AbortSignal.any makes of it.
    const woken = new AbortController();
    wake = () => woken.abort();
    const notice = server.listen();
    try {
      await notice.ready;
      const claimed = await claim();
      if (claimed === null) return await notice.wait(LOOK_MS, woken.signal);
      const answered: Promise<void> = answer(claimed, options, stopping.signal).finally(() => {
        open.delete(answered);
        wake();
      });
      open.add(answered);
    } finally {
      notice.close();
    }
  };
  const run = async () => {
    while (!stopping.signal.aborted) {
      await look().catch(async (error: unknown) => {
        log.warn({ err: error }, 'requests for text could not be looked for');
        await pause(PAUSE_MS, stopping.signal);
      });
    }
  };
  void run();

  return async () => {
    endListening();
    stopping.abort();
    wake();
    await Promise.all(open);
    server.close();
  };
}

/** Answers one request. Never rejects. */
async function answer(
  claimed: ClaimedRequest,
  { pool, log: workerLog, metrics, timeoutMs, ...sources }: AnswerRequestsOptions,
  stopping: AbortSignal,
): Promise<void> {
  const { id, request, answer } = claimed;
  const log = workerLog.child({ generation: id, base_model: request.base_model, adapter: request.adapter });
  const startMs = performance.now();
  const timeout = AbortSignal.timeout(timeoutMs);
  const { signal, unlink } = linkSignals([answer.signal, stopping, timeout]);
  const releases: (() => void)[] = [];
  metrics.started();
  let outcome: GenerationOutcome = 'failed';
  let tokens: { prompt: number; completion: number } | undefined;
  const fail = (failure: GenerationFailure) => {
    log.info({ failure }, 'a request for text failed');
    answer.write({ type: 'failed', failure });
  };
  const preparing = prepare(claimed, sources, releases);
  try {
    // A base model may be fetched from a bucket first, for longer than anybody waits.
    const prepared = await untilAborted(preparing, signal);
    const lease = prepared === null ? null : await pool.lease(baseOf(prepared), signal);
    if (lease === null && !signal.aborted) {
      outcome = 'given-back';
      return await claimed.giveBack();
    }
    if (lease !== null) releases.push(lease.release);
    let isFirst = true;
    const result: GenerationResult =
      prepared === null || lease === null
        ? { type: 'cancelled' }
        : await lease.process.generate(
            { ...prepared, inTrainer: lease.base },
            {
              signal,
              onChunk(piece) {
                if (isFirst && piece.type !== 'start') {
                  metrics.began((performance.now() - startMs) / 1000);
                  isFirst = false;
                }
                answer.write(piece);
              },
            },
          );
    switch (result.type) {
      case 'answered':
        outcome = 'answered';
        ({ tokens } = result);
        answer.write({ type: 'end', prompt_tokens: tokens.prompt, completion_tokens: tokens.completion });
        break;
      case 'failed':
        fail(result.failure);
        break;
      case 'cancelled':
        if (answer.signal.aborted) outcome = 'left';
        else fail(stopping.aborted ? STOPPED : timedOut(timeoutMs));
    }
  } catch (error) {
    const known = asStorageError(error);
    if (!(known instanceof ProductError)) log.error({ err: error }, 'a request for text failed');
    fail(failureOf(known));
  } finally {
    const releaseAll = () => {
      for (const release of releases.reverse()) release();
    };
    // What is still being fetched is released once it is here.
    void preparing.then(releaseAll, releaseAll);
    unlink();
    metrics.ended(outcome, tokens);
  }
  await answer.done;
}

function baseOf({
  request,
  precision,
  quantization,
}: Pick<GenerationOrder, 'request' | 'precision' | 'quantization'>): SharedBase {
  return { baseModel: request.base_model, precision, quantization };
}

/** Brings to this host what the request names, and keeps it there. */
async function prepare(
  { request }: ClaimedRequest,
  {
    models,
    machine,
    weightDigests,
    ...stores
  }: Pick<AnswerRequestsOptions, 'models' | 'adapters' | 'snapshots' | 'machine' | 'weightDigests'>,
  releases: (() => void)[],
): Promise<Omit<GenerationOrder, 'inTrainer'>> {
  const model = await models.lease(request.base_model);
  releases.push(() => model.release());
  const { path: modelFolder } = await openBaseModel(model.modelsDir, request.base_model);
  const adapter = request.adapter === null ? NO_ADAPTER : await prepareAdapter(request.adapter, stores, releases);
  return { request, modelFolder, ...adapter, machine, weightDigests };
}

/** The files of an adapter, and the form of the base model that it is computed with. */
type PreparedAdapter = Pick<GenerationOrder, 'adapterFolder' | 'precision' | 'quantization'>;

const NO_ADAPTER: PreparedAdapter = { adapterFolder: null, precision: 'auto', quantization: 'none' };

/** @throws ProductError `adapter_not_found`: it may have been deleted since the api looked */
async function prepareAdapter(
  id: AdapterId | SnapshotId,
  { adapters, snapshots }: Pick<AnswerRequestsOptions, 'adapters' | 'snapshots'>,
  releases: (() => void)[],
): Promise<PreparedAdapter> {
  if (id.startsWith(SNAPSHOT_PREFIX)) {
    const { precision } = await readSnapshot(snapshots, id);
    const files = await snapshots.lease(id);
    releases.push(() => files.release());
    return { adapterFolder: files.folder, precision, quantization: 'none' };
  }
  if (!(await adapters.has(id))) {
    throw new ProductError('adapter_not_found', `There is no adapter ${id}.`, { param: 'model' });
  }
  const files = await adapters.lease(id);
  releases.push(() => files.release());
  const manifest = await readManifestOfFolder(files.folder);
  return {
    adapterFolder: files.folder,
    precision: (manifest && trainedPrecision(manifest.origin)) ?? 'auto',
    quantization: onLoad(manifest?.base_model.quantization ?? null),
  };
}

function failureOf(error: unknown): GenerationFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, param: error.param };
  return { code: 'internal_error', message: 'The request failed; the log of the worker says why. Try again.' };
}

const STOPPED: GenerationFailure = {
  code: 'service_unavailable',
  message: 'The worker that was answering stops. Send the request again.',
  retry_after_seconds: 2,
};

function timedOut(timeoutMs: number): GenerationFailure {
  const message = `The answer took longer than the ${timeoutMs / 1000} s that GENERATION_TIMEOUT_MS allows. Ask for fewer tokens.`;
  return { code: 'timeout', message };
}
