import { bytesText, type Client } from '@lorasmith/client/core';
import { useState } from 'preact/hooks';
import { ErrorNotice } from '../../components/error-notice.js';
import { notify } from '../../components/toasts.js';
import { saveDownload } from '../../download/save-download.js';
import { useClient } from '../../service/service.js';
import { session } from '../../service/session.js';
import { useAction } from '../../service/use-action.js';
import { useStore } from '../../store.js';

export interface DownloadButtonProps {
  adapter: string;
  query: NonNullable<Parameters<Client['streamAdapter']>[1]>;
  /** Suggested name of the file. */
  name: string;
  label: string;
}

/** Downloads an adapter in one form. Without a key it is a plain link, and the browser does the rest. */
export function DownloadButton({ adapter, query, name, label }: DownloadButtonProps) {
  const client = useClient();
  const { key } = useStore(session);
  const [progress, setProgress] = useState<{ received: number; total: number | null } | null>(null);
  const [stop, setStop] = useState<AbortController | null>(null);
  const save = useAction(async (left) => {
    const stopped = new AbortController();
    const signal = AbortSignal.any([left, stopped.signal]);
    setStop(stopped);
    try {
      const saved = await saveDownload({
        name,
        signal,
        begin: (ended) => client.streamAdapter(adapter, query, { signal: ended }),
        onProgress: (received, total) => setProgress({ received, total }),
      });
      if (saved) notify(`Downloaded ${name}.`);
    } catch (error) {
      if (!stopped.signal.aborted) throw error;
    } finally {
      setProgress(null);
      setStop(null);
    }
  });
  if (key === null) {
    const parameters = new URLSearchParams(Object.entries(query)).toString();
    const address = `adapters/${encodeURIComponent(adapter)}${parameters === '' ? '' : `?${parameters}`}`;
    return (
      <a class="button" href={address} download={name}>
        {label}
      </a>
    );
  }
  return (
    <div class="download">
      <div class="buttons">
        <button type="button" disabled={save.isBusy} onClick={() => save.run()}>
          {label}
        </button>
        {stop !== null && (
          <button type="button" aria-label={`Stop: ${label}`} onClick={() => stop.abort()}>
            Stop
          </button>
        )}
      </div>
      {save.isBusy && (
        <p class="fine-print">
          {progress === null ? (
            'Waiting for the service. A merged model and a GGUF file are computed first.'
          ) : (
            <>
              <progress aria-label={label} value={progress.received} max={progress.total ?? undefined} />{' '}
              {bytesText(progress.received)}
              {progress.total !== null && ` of ${bytesText(progress.total)}`}
            </>
          )}
        </p>
      )}
      <ErrorNotice error={save.error} what="The download failed" />
    </div>
  );
}
