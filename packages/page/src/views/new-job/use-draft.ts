import { type Job, specOf } from '@lorasmith/contracts';
import { useEffect, useRef, useState } from 'preact/hooks';
import { navigate } from '../../location.js';
import { useClient } from '../../service/service.js';
import { readTab, writeTab } from '../../store.js';
import { type Draft, draftOf, FIRST_DRAFT, withoutTwoValidations } from './draft.js';
import type { JobField } from './job-fields.js';

/** The form in the storage of the tab, so that it survives a reload. No part of it is a secret. */
const STORAGE_KEY = 'lorasmith-new-job';

interface StoredDraft {
  /** The parameters of the address that it began with: other ones begin another draft. */
  origin: string;
  draft: Draft;
  /** The last request that was sent, and its idempotency key: the same request again is the same job. */
  sent?: { request: string; key: string } | undefined;
}

export interface DraftState {
  draft: Draft;
  /** While an earlier job is read. */
  isLoading: boolean;
  /** Why the earlier job could not be read. */
  error: unknown;
  change: (fields: Draft) => void;
  /** Empties the form to the standard recipe, and the address: it begins the same draft again when it is opened again. */
  clear: () => void;
  /** The idempotency key of a request. */
  keyFor: (request: object) => string;
}

/**
 * The draft of the form. It begins as the standard recipe, with the fields that the address names (`dataset=ds_…`), or as an earlier job
 * (`from=job_…`).
 */
export function useDraft(fields: readonly JobField[], query: URLSearchParams): DraftState {
  const client = useClient();
  const origin = query.toString();
  const [stored, setStored] = useState<StoredDraft>(() => readStored() ?? { origin: '', draft: FIRST_DRAFT });
  const [error, setError] = useState<unknown>(undefined);
  const isLoading = stored.origin !== origin && error === undefined;

  // Two fields may change before the form is rendered again, as when a browser fills them.
  const latest = useRef(stored);
  const keep = (next: StoredDraft) => {
    latest.current = next;
    writeTab(STORAGE_KEY, JSON.stringify(next));
    setStored(next);
  };

  useEffect(() => {
    if (stored.origin === origin) return;
    const left = new AbortController();
    setError(undefined);
    const named = Object.fromEntries(fields.flatMap(({ id }) => (query.has(id) ? [[id, query.get(id)!]] : [])));
    const earlier = query.get('from');
    const begin = async () => {
      const base =
        earlier === null ? FIRST_DRAFT : likeJob(fields, await client.getJob(earlier, { signal: left.signal }));
      // Nothing in the address: the form goes on as it was left.
      if (origin === '') keep({ ...latest.current, origin });
      else keep({ origin, draft: withoutTwoValidations({ ...base, ...named }) });
    };
    begin().catch((failure: unknown) => {
      if (!left.signal.aborted) setError(failure);
    });
    return () => left.abort();
  }, [origin]);

  return {
    draft: stored.draft,
    isLoading,
    error,
    change: (fields) =>
      keep({ ...latest.current, origin, draft: withoutTwoValidations({ ...latest.current.draft, ...fields }) }),
    clear() {
      keep({ origin: '', draft: FIRST_DRAFT });
      navigate('/new-job', {}, { replace: true });
    },
    keyFor(request) {
      const text = JSON.stringify(request);
      const { sent } = latest.current;
      if (sent?.request === text) return sent.key;
      const key = `page-${[...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
      keep({ ...latest.current, sent: { request: text, key } });
      return key;
    },
  };
}

/** The draft of a job like this one. Its note says something about that job alone. */
function likeJob(fields: readonly JobField[], job: Job): Draft {
  return draftOf(fields, { ...specOf(job), tags: job.tags });
}

/** Null if there is none, or one that is not readable. */
function readStored(): StoredDraft | null {
  try {
    const { origin, draft, sent } = JSON.parse(readTab(STORAGE_KEY) ?? 'null') as StoredDraft;
    const texts = Object.entries(draft).filter(([, text]) => typeof text === 'string');
    return { origin: String(origin), draft: Object.fromEntries(texts), sent };
  } catch {
    return null;
  }
}
