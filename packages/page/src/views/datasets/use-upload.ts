import { type Dataset, MAX_NAME_CHARACTERS, ProductError } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { notify } from '../../components/toasts.js';
import { clientWith, session } from '../../service/service.js';
import { type Action, useAction } from '../../service/use-action.js';
import { areRowColumns, columnsOfFile } from './file-columns.js';

/** A file that is being sent. */
export interface CurrentUpload {
  file: File;
  sentBytes: number;
  cancel: () => void;
}

/** A file whose columns are no row's: it is sent once somebody says what they are. */
export interface AskedColumns {
  file: File;
  columns: readonly string[];
}

export interface UploadSettings {
  /** The columns of the file that rows have, as the service takes them. Empty: they are found, or asked for. */
  columns?: string;
  /** The base model for which it is tokenized. Empty: none. */
  baseModel?: string;
}

export interface Uploading {
  /** Sends files that were chosen or dropped: one. */
  take: Action<[files: readonly File[], columns?: string]>;
  current: CurrentUpload | null;
  asked: AskedColumns | null;
  /** Sends the file of {@link asked} with these columns; null: leaves it. */
  answer: (columns: string | null) => void;
  /** The dataset of the last upload. */
  stored: Dataset | null;
}

/** The upload of a dataset: what is being sent, what is asked, and what was stored. */
export function useUpload({ columns = '', baseModel = '' }: UploadSettings, onStored: (dataset: Dataset) => void) {
  const [current, setCurrent] = useState<CurrentUpload | null>(null);
  const [asked, ask] = useState<AskedColumns | null>(null);
  const [stored, setStored] = useState<Dataset | null>(null);

  const take = useAction(async (left, files: readonly File[], known: string = columns.trim()) => {
    setStored(null);
    ask(null);
    const file = oneOf(files);
    const found = known === '' ? await columnsOfFile(file) : null;
    if (found !== null && !areRowColumns(found)) {
      ask({ file, columns: found });
      return;
    }
    const cancelled = new AbortController();
    const begun = { file, sentBytes: 0, cancel: () => cancelled.abort() };
    setCurrent(begun);
    const client = clientWith(
      session.get().key,
      fetchWithProgress((sentBytes) => setCurrent({ ...begun, sentBytes })),
    );
    try {
      const name = [...file.name].slice(0, MAX_NAME_CHARACTERS).join('');
      const options = { name, signal: AbortSignal.any([left, cancelled.signal]) };
      const rows = { columns: known || undefined, baseModel: baseModel || undefined };
      const dataset = await client.uploadDataset({ blob: file }, { ...options, ...rows });
      setStored(dataset);
      notify(`${dataset.name ?? dataset.id} is stored.`);
      onStored(dataset);
    } catch (error) {
      if (!cancelled.signal.aborted) throw error;
      notify('The upload was cancelled.');
    } finally {
      setCurrent(null);
    }
  });
  const answer = (chosen: string | null) => {
    if (chosen === null || asked === null) ask(null);
    else take.run([asked.file], chosen);
  };
  return { take, current, asked, answer, stored } satisfies Uploading;
}

function oneOf(files: readonly File[]): File {
  const [file, ...others] = files;
  if (file !== undefined && others.length === 0) return file;
  const message = file === undefined ? 'That was no file. Drop a file.' : 'Drop one file at a time.';
  throw new ProductError('invalid_request', message);
}

/**
 * A `fetch` for one upload that reports how much of its body is sent: browsers tell that only of XMLHttpRequest.
 * @param onSent - receives the bytes sent so far
 */
function fetchWithProgress(onSent: (bytes: number) => void): typeof globalThis.fetch {
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      const { method = 'GET', headers, body = null, signal } = init;
      const request = new XMLHttpRequest();
      request.open(method, input instanceof Request ? input.url : input);
      for (const [name, value] of new Headers(headers)) request.setRequestHeader(name, value);
      request.upload.addEventListener('progress', ({ loaded }) => onSent(loaded));
      request.addEventListener('load', () => resolve(answerOf(request)));
      request.addEventListener('error', () => reject(new TypeError('the connection was lost')));
      request.addEventListener('abort', () => reject(signal?.reason));
      signal?.addEventListener('abort', () => request.abort());
      request.send(body as XMLHttpRequestBodyInit | null);
    });
}

function answerOf(request: XMLHttpRequest): Response {
  const headers = new Headers();
  for (const line of request.getAllResponseHeaders().trim().split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (colon > 0) headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return new Response(request.responseText, { status: request.status, headers });
}
