import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import type { Action } from '../service/use-action.js';
import { ErrorNotice } from './error-notice.js';

export interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}

/** A modal dialog, open as long as it is rendered. Escape closes it; the focus returns to where it was. */
export function Dialog({ title, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={onClose}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

export interface ConfirmDialogProps {
  title: string;
  children: ComponentChildren;
  /** The label of the button that does it. */
  confirm: string;
  action: Action<[]>;
  onClose: () => void;
}

/** Asks before something that cannot be undone. Its parent stops rendering it when `action` has succeeded. */
export function ConfirmDialog({ title, children, confirm, action, onClose }: ConfirmDialogProps) {
  return (
    <Dialog title={title} onClose={onClose}>
      {children}
      <ErrorNotice error={action.error} />
      <div class="buttons">
        <button type="button" class="danger" disabled={action.isBusy} onClick={() => action.run()}>
          {confirm}
        </button>
        <CloseButton />
      </div>
    </Dialog>
  );
}

/** The button that closes the dialog in which it is, as Escape does: one that is only removed takes the focus with it. */
export function CloseButton() {
  return (
    <button type="button" onClick={({ currentTarget }) => currentTarget.closest('dialog')?.close()}>
      Close
    </button>
  );
}
