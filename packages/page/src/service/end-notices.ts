import { stateText } from '@lorasmith/client/core';
import { ENDED_STATUSES, type Job, ProductError } from '@lorasmith/contracts';
import { createStore, readTab, type Store, writeTab } from '../store.js';

const STORAGE_KEY = 'lorasmith-end-notices';

/** The jobs whose end the browser shows, by id: in the storage of the tab, so that a reload keeps them. */
export const watchedJobs: Store<readonly string[]> = createStore(storedJobs());

function storedJobs(): readonly string[] {
  const text = readTab(STORAGE_KEY) ?? '';
  return text.split(' ').filter((id) => id !== '');
}

function keep(ids: readonly string[]): void {
  writeTab(STORAGE_KEY, ids.length === 0 ? null : ids.join(' '));
  watchedJobs.set(ids);
}

/** True if this browser can show notices: it does so only for pages of https or of this machine. */
export function canNotify(): boolean {
  return 'Notification' in window && window.isSecureContext;
}

/** Asks the browser to show the end of a job. @returns false if its user, or the browser, does not allow that */
export async function watchEnd(id: string): Promise<boolean> {
  if ((await Notification.requestPermission()) !== 'granted') return false;
  keep([...new Set([...watchedJobs.get(), id])]);
  return true;
}

export function unwatchEnd(id: string): void {
  keep(watchedJobs.get().filter((one) => one !== id));
}

/**
 * Looks at the watched jobs, also in a hidden tab, and shows which of them have ended.
 * @param read - Reads a job
 * @param show - Shows a notice
 */
export async function showEnded(read: (id: string) => Promise<Job>, show: (job: Job) => void): Promise<void> {
  for (const id of watchedJobs.get()) {
    try {
      const job = await read(id);
      if (!ENDED_STATUSES.includes(job.status)) continue;
      unwatchEnd(id);
      show(job);
    } catch (error) {
      // It was deleted; after any other error it is read again.
      if (error instanceof ProductError && error.code === 'job_not_found') unwatchEnd(id);
    }
  }
}

/** Shows that a job has ended. A press on it leads to the job. */
export function showNotice(job: Job): void {
  const { id, name, status, error } = job;
  const words = { succeeded: 'has succeeded', failed: 'has failed', cancelled: `is ${stateText(job)}` } as Record<
    string,
    string
  >;
  // Some browsers have the permission, and show nothing that a page makes by itself.
  try {
    const notice = new Notification(`${name ?? id} ${words[status] ?? status}`, {
      body: error?.message.slice(0, 200) ?? '',
      tag: id,
    });
    notice.addEventListener('click', () => {
      window.focus();
      window.location.hash = `#/jobs/${id}`;
      notice.close();
    });
  } catch {}
}
