import { setMaxListeners } from 'node:events';

export interface LinkedSignal {
  signal: AbortSignal;
  /** Lets go of the sources: the signal is aborted no more. */
  unlink(): void;
}

/**
 * A signal that is aborted with the first of its sources, and with its reason. Unlike one of `AbortSignal.any`, it leaves nothing in a source that
 * lives as long as the process: on Node 20 such a source never forgets what was made of it.
 *
 * All links end when a source is aborted. Where none may ever be, call `unlink`.
 */
export function linkSignals(sources: readonly AbortSignal[]): LinkedSignal {
  const controller = new AbortController();
  const unlinks = sources.map((source) => {
    const follow = () => {
      controller.abort(source.reason);
      unlink();
    };
    // Any number of requests may follow the signal of a process.
    setMaxListeners(0, source);
    source.addEventListener('abort', follow);
    return () => source.removeEventListener('abort', follow);
  });
  const unlink = () => {
    for (const one of unlinks) one();
  };
  const aborted = sources.find((source) => source.aborted);
  if (aborted !== undefined) {
    controller.abort(aborted.reason);
    unlink();
  }
  return { signal: controller.signal, unlink };
}
