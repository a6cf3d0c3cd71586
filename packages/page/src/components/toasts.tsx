import { createStore, useStore } from '../store.js';

interface Toast {
  id: number;
  text: string;
}

const SHOWN_MS = 4_000;
const toasts = createStore<readonly Toast[]>([]);
let lastId = 0;

/** Shows a short message for some seconds. Screen readers say it. */
export function notify(text: string): void {
  lastId += 1;
  const toast = { id: lastId, text };
  toasts.set([...toasts.get().slice(-3), toast]);
  setTimeout(() => toasts.set(toasts.get().filter((one) => one !== toast)), SHOWN_MS);
}

/** The live region of these messages. It is always there, because screen readers say only what changes in a live region. */
export function Toasts() {
  const shown = useStore(toasts);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.map(({ id, text }) => (
        <p key={id} class="toast">
          {text}
        </p>
      ))}
    </div>
  );
}
