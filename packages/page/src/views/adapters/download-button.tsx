import { bytesText, type Client, type DownloadStream } from '@lorasmith/client/core';
import { ProductError } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { ErrorNotice } from '../../components/error-notice.js';
import { notify } from '../../components/notices.js';
import { session, useClient } from '../../service/service.js';
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

/** The most bytes of a download that a browser without a file system of its own keeps in memory. */
const MAX_MEMORY_BYTES = 1_000_000_000;

interface WritableFile {
  write(chunk: Uint8Array): Promise<void>;
  close(): Promise<void>;
  abort(): Promise<void>;
}

type SavePicker = (options: { suggestedName: string }) => Promise<{ createWritable(): Promise<WritableFile> }>;

export interface SaveOptions {
  /** The suggested name of the file. */
  name: string;
  begin: (signal: AbortSignal) => Promise<DownloadStream>;
  signal: AbortSignal;
  onProgress: (receivedBytes: number, totalBytes: number | null) => void;
}

/**
 * Saves a download that needs a key, which a plain link cannot send and an address must not contain. Writes each chunk to the
 * disk where the browser allows it; elsewhere collects them in memory, up to {@link MAX_MEMORY_BYTES}. Must be called in
 * answer to a click.
 *
 * @returns false if the user closed the browser's dialog
 */
async function saveDownload(options: SaveOptions): Promise<boolean> {
  const picker = (window as { showSaveFilePicker?: SavePicker }).showSaveFilePicker;
  if (picker === undefined) {
    await collect(options);
    return true;
  }
  const file = await picker({ suggestedName: options.name }).catch((error: unknown) => {
    if (error instanceof DOMException && error.name === 'AbortError') return null;
    throw error;
  });
  if (file === null) return false;
  const writable = await file.createWritable();
  try {
    for await (const chunk of received(options)) await writable.write(chunk);
    await writable.close();
  } catch (error) {
    await writable.abort().catch(() => {});
    throw error;
  }
  return true;
}

async function collect(options: SaveOptions): Promise<void> {
  const parts: BlobPart[] = [];
  let bytes = 0;
  for await (const chunk of received(options)) {
    bytes += chunk.length;
    if (bytes > MAX_MEMORY_BYTES) throw tooLarge();
    parts.push(chunk as BlobPart);
  }
  const address = URL.createObjectURL(new Blob(parts));
  const link = document.createElement('a');
  link.href = address;
  link.download = options.name;
  link.click();
  // The browser has the bytes once the download has begun.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

async function* received({ begin, signal, onProgress }: SaveOptions): AsyncGenerator<Uint8Array> {
  const { totalBytes, chunks } = await begin(signal);
  onProgress(0, totalBytes);
  const inMemory = !('showSaveFilePicker' in window);
  if (inMemory && totalBytes !== null && totalBytes > MAX_MEMORY_BYTES) {
    await chunks.return();
    throw tooLarge();
  }
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    onProgress(bytes, totalBytes);
    yield chunk;
  }
}

function tooLarge(): ProductError {
  const message = `This browser can only keep downloads up to ${bytesText(MAX_MEMORY_BYTES)} in memory. Use the command below, or a browser that can save to the disk, such as Chrome or Edge.`;
  return new ProductError('invalid_request', message);
}
