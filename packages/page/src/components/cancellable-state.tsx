import type { ComponentChildren } from 'preact';
import { useAction } from '../service/use-action.js';
import { ErrorNotice } from './error-notice.js';

export interface CancellableStateProps {
  status: string;
  /** The state whose colour its badge has. */
  badge: string;
  /** The error with which it ended; null: none. */
  error: { message: string } | null;
  /** The words of the cancel button for screen readers; null: it cannot be cancelled. */
  cancelLabel: string | null;
  onCancel: (signal: AbortSignal) => Promise<void>;
  /** Facts about the state, after its badge. */
  children?: ComponentChildren;
}

/** The state of something that the service does, with a button that cancels it. */
export function CancellableState({ status, badge, error, cancelLabel, onCancel, children }: CancellableStateProps) {
  const cancel = useAction(onCancel);
  return (
    <div class="cancellable-state">
      <span class={`badge badge-${badge}`}>{status}</span>
      {children}
      {error !== null && <span>{error.message}</span>}
      {cancelLabel !== null && (
        <button type="button" aria-label={cancelLabel} disabled={cancel.isBusy} onClick={() => cancel.run()}>
          Cancel
        </button>
      )}
      <ErrorNotice error={cancel.error} />
    </div>
  );
}
