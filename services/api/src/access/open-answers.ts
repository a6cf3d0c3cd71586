import type { ServerResponse } from 'node:http';
import { type KeyId, ProductError } from '@lorasmith/contracts';

/** Most that may be open at a time. */
export interface OpenLimits {
  /** Of one key. */
  own: number;
  /** Of everybody. */
  total: number;
}

/** Counts the calls of one kind that last, in this process: each keeps a connection, and something behind it. */
export interface OpenAnswers {
  /**
   * @returns ends the counting of this one; further calls do nothing
   * @throws ProductError `quota_exceeded`, `service_unavailable`
   */
  open(key: KeyId | null, limits: OpenLimits): () => void;
}

/** @param what is counted, in the plural: event streams, downloads, uploads */
export function createOpenAnswers(what: string): OpenAnswers {
  const ofKey = new Map<KeyId | null, number>();
  let total = 0;
  return {
    open(key, limits) {
      const own = ofKey.get(key) ?? 0;
      if (own >= limits.own) {
        throw new ProductError('quota_exceeded', `This key has ${own} open ${what}, which is its limit.`);
      }
      if (total >= limits.total) {
        throw new ProductError('service_unavailable', `The service has ${total} open ${what}, which is its limit.`);
      }
      ofKey.set(key, own + 1);
      total++;
      let isOpen = true;
      return () => {
        if (!isOpen) return;
        isOpen = false;
        total--;
        const left = (ofKey.get(key) ?? 1) - 1;
        if (left > 0) ofKey.set(key, left);
        else ofKey.delete(key);
      };
    },
  };
}

/** Runs when the answer is over; at once when its client was gone before anything was answered. */
export function onceClosed(response: ServerResponse, run: () => void): void {
  if (response.destroyed) run();
  else response.once('close', run);
}
