import { type KeyId, ProductError } from '@lorasmith/contracts';

export interface StreamLimits {
  /** Of one key. */
  eventStreams: number;
  /** Of everybody. */
  totalEventStreams: number;
}

/** Counts the event streams of this process. Each keeps a connection, and a look at Redis now and then. */
export interface OpenStreams {
  /**
   * @returns ends the counting of this one; further calls do nothing
   * @throws ProductError `quota_exceeded`, `service_unavailable`
   */
  open(key: KeyId | null, limits: StreamLimits): () => void;
}

export function createOpenStreams(): OpenStreams {
  const ofKey = new Map<KeyId | null, number>();
  let total = 0;
  return {
    open(key, { eventStreams, totalEventStreams }) {
      const own = ofKey.get(key) ?? 0;
      if (own >= eventStreams) {
        throw new ProductError('quota_exceeded', `This key has ${own} event streams open, as many as it may.`);
      }
      if (total >= totalEventStreams) {
        throw new ProductError('service_unavailable', `${total} event streams are open, as many as may be.`);
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
