/**
 * The time within which a second signal is a duplicate. Under npm, Ctrl-C arrives twice: from the terminal, and forwarded by npm.
 */
const REPETITION_MS = 1_000;

const SIGNALS = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);

/**
 * A signal that is aborted when this process is first asked to stop. A later request ends the process at once; the parts of
 * a stack then end by themselves.
 *
 * @returns {AbortSignal}
 */
export function interruption() {
  const controller = new AbortController();
  onInterruption((_signal, times) => {
    if (times > 1) process.exit(130);
    controller.abort(new Error('interrupted'));
  });
  return controller.signal;
}

/**
 * @param {(signal: NodeJS.Signals, times: number) => void} handler called each time this process is asked to stop
 */
export function onInterruption(handler) {
  let times = 0;
  let lastAt = Number.NEGATIVE_INFINITY;
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      const now = performance.now();
      if (now - lastAt < REPETITION_MS) return;
      lastAt = now;
      times += 1;
      handler(signal, times);
    });
  }
}

/** @param {AbortSignal} signal @returns {Promise<undefined>} */
export function whenAborted(signal) {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined));
  });
}
