import { pause } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import type { TrainingSessionStore } from '@lorasmith/queue';
import type { FastifyBaseLogger } from 'fastify';
import type { AdapterUsers, RegistryClient } from '../adapters/registry-client.js';
import { removeCheckpoint } from './checkpoint-routes.js';

const LOOK_EVERY_MS = 60_000;
const AT_ONCE = 100;

export interface ExpiryOptions {
  store: TrainingSessionStore;
  users: AdapterUsers;
  registry: Pick<RegistryClient, 'removeAdapter'>;
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>;
}

/**
 * Removes checkpoints whose time has come, with their adapters. Several api processes may: what is gone is forgotten.
 * @returns a function that stops it and waits for the current removal
 */
export function startCheckpointExpiry(options: ExpiryOptions): () => Promise<void> {
  const { log } = options;
  const over = new AbortController();
  const run = async () => {
    while (!over.signal.aborted) {
      try {
        const removed = await removeExpired(options, over.signal);
        if (removed > 0) log.info({ removed }, 'checkpoints of training sessions have expired');
      } catch (error) {
        log.warn({ err: error }, 'expired checkpoints could not be removed; trying again later');
      }
      await pause(LOOK_EVERY_MS, over.signal);
    }
  };
  const running = run();
  return async () => {
    over.abort();
    await running;
  };
}

/** @returns how many were removed. One that a job or a name needs stays. */
export async function removeExpired(options: ExpiryOptions, signal: AbortSignal): Promise<number> {
  const { store } = options;
  let removed = 0;
  for (const name of await store.expired(AT_ONCE)) {
    if (signal.aborted) break;
    const checkpoint = await store.checkpoint(name.model, name);
    if (checkpoint === null) {
      await store.forgetCheckpoint(name.model, name);
      continue;
    }
    try {
      await removeCheckpoint(options, name.model, checkpoint);
      removed++;
    } catch (error) {
      if (!(error instanceof ProductError && error.code === 'in_use')) throw error;
      // It is somebody's by now, so it does not expire any more.
      await store.changeCheckpoint(name.model, checkpoint, { expires_at: null });
    }
  }
  return removed;
}
