import { useEffect } from 'preact/hooks';
import { canNotify, showEnded, showNotice, unwatchEnd, watchEnd, watchedJobs } from '../service/end-notices.js';
import { useClient } from '../service/service.js';
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

const EVERY_MS = 5_000;

/** Shows notices of watched jobs that end, whatever view is open. It draws nothing. */
export function EndNotices() {
  const client = useClient();
  const hasWatched = useStore(watchedJobs).length > 0;
  useEffect(() => {
    if (!hasWatched) return;
    const left = new AbortController();
    let timer = 0;
    const look = async () => {
      await showEnded((id) => client.getJob(id, { signal: left.signal }), showNotice);
      if (!left.signal.aborted) timer = window.setTimeout(() => void look(), EVERY_MS);
    };
    void look();
    return () => {
      left.abort();
      window.clearTimeout(timer);
    };
  }, [client, hasWatched]);
  return null;
}

/** A button that asks the browser to show the end of a job. Only a press on it asks for the permission. */
export function NoticeButton({ job }: { job: string }) {
  const isWatched = useStore(watchedJobs).includes(job);
  if (!canNotify()) return null;
  const toggle = () => {
    if (isWatched) return unwatchEnd(job);
    void watchEnd(job).then((isAllowed) =>
      notify(
        isAllowed
          ? 'The browser shows a notice when the job ends, as long as this tab is open.'
          : 'The browser does not allow notices of this page. Allow them in its settings for this address.',
      ),
    );
  };
  return (
    <button type="button" aria-pressed={isWatched} onClick={toggle}>
      Notify me at its end
    </button>
  );
}
