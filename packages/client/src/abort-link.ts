/**
 * A controller that is also aborted when `signal` is; `unlink` ends that. Not `AbortSignal.any`: what that returns, Node
 * 20 may collect as garbage while it is waited for, and the abort never comes.
 */
export function linkAbort(signal: AbortSignal | undefined): { controller: AbortController; unlink: () => void } {
  const controller = new AbortController();
  const follow = () => controller.abort(signal?.reason);
  if (signal?.aborted) follow();
  signal?.addEventListener('abort', follow, { once: true });
  return { controller, unlink: () => signal?.removeEventListener('abort', follow) };
}
