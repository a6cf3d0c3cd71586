import { bytesText, countText } from '@lorasmith/client/core';
import { type Dataset, MAX_NAME_CHARACTERS, ProductError } from '@lorasmith/contracts';
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { ErrorNotice, FaultList } from '../../components/error-notice.js';
import { Field, type FieldInput } from '../../components/field.js';
import { notify } from '../../components/notices.js';
import { Link } from '../../location.js';
import { clientWith, session } from '../../service/service.js';
import { type Action, useAction } from '../../service/use-action.js';
import { useModelNames } from './dataset-rows.js';
import { areRowColumns, columnLike, columnsOfFile } from './file-columns.js';

/** A file that is being sent. */
interface CurrentUpload {
  file: File;
  sentBytes: number;
  cancel: () => void;
}

/** A file whose columns are no row's: it is sent once somebody says what they are. */
interface AskedColumns {
  file: File;
  columns: readonly string[];
}

interface UploadSettings {
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
function useUpload({ columns = '', baseModel = '' }: UploadSettings, onStored: (dataset: Dataset) => void) {
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

/** Uploads a file that is chosen or dropped. */
export function UploadCard({ onStored }: { onStored: () => void }) {
  const [baseModel, setBaseModel] = useState('');
  const [columns, setColumns] = useState('');
  const models = useModelNames();
  const uploading = useUpload({ columns, baseModel }, onStored);
  const { take, current, asked, answer, stored } = uploading;
  return (
    <DropZone class="card" label="Upload" uploading={uploading}>
      <h2>Upload</h2>
      <p>
        Drop a file of rows here, or choose one: JSONL, JSON, CSV or Parquet. Every row is checked before it is stored.
      </p>
      <div class="field-row">
        <Field label="File">{(input) => <FileInput input={input} uploading={uploading} />}</Field>
        <Field label="Columns" help="Asked for where they are not known. Or: prompt:question,completion:answer.">
          {(field) => (
            <input
              {...field}
              value={columns}
              spellcheck={false}
              disabled={take.isBusy}
              onInput={(event) => setColumns(event.currentTarget.value)}
            />
          )}
        </Field>
        <Field label="Tokenize for" help="Optional: the first job on this model starts sooner.">
          {(field) => (
            <select
              {...field}
              value={baseModel}
              disabled={take.isBusy}
              onChange={(event) => setBaseModel(event.currentTarget.value)}
            >
              <option value="">no model yet</option>
              {models.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          )}
        </Field>
      </div>
      {asked !== null && <ColumnSelects key={asked.file.name} asked={asked} answer={answer} />}
      {current !== null && <UploadProgress upload={current} />}
      <ErrorNotice error={take.error} what="The file was not stored" />
      {stored !== null && <StoredNotice dataset={stored} />}
    </DropZone>
  );
}

/** Uploads a dataset within another form. */
export function UploadInForm({ onStored }: { onStored: (dataset: Dataset) => void }) {
  const uploading = useUpload({}, onStored);
  const { take, current, asked, answer, stored } = uploading;
  return (
    <DropZone class="upload-in-form" label="Upload of a dataset" uploading={uploading}>
      <Field label="Or upload a dataset" help="Drop a file here, or choose one: JSONL, JSON, CSV or Parquet.">
        {(input) => <FileInput input={input} uploading={uploading} />}
      </Field>
      {asked !== null && <ColumnSelects key={asked.file.name} asked={asked} answer={answer} />}
      {current !== null && <UploadProgress upload={current} />}
      <ErrorNotice error={take.error} what="The file was not stored" />
      {stored !== null && <StoredNotice dataset={stored} />}
    </DropZone>
  );
}

/** The kinds of files of rows. */
const ACCEPTED = '.jsonl,.ndjson,.json,.csv,.tsv,.parquet,.txt,.gz,.zst';

interface DropZoneProps {
  class: string;
  label: string;
  uploading: Pick<Uploading, 'take'>;
  children: ComponentChildren;
}

/** An area on which a file can be dropped. */
function DropZone({ class: className, children, uploading, label }: DropZoneProps) {
  const [isOver, setOver] = useState(false);
  return (
    <section
      class={`${className} drop-zone${isOver ? ' drop-zone-over' : ''}`}
      aria-label={label}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        uploading.take.run([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      {children}
    </section>
  );
}

/** The input of a file that is sent once it is chosen. */
function FileInput({ input, uploading }: { input: FieldInput; uploading: Pick<Uploading, 'take'> }) {
  return (
    <input
      {...input}
      type="file"
      accept={ACCEPTED}
      disabled={uploading.take.isBusy}
      onChange={({ currentTarget }) => {
        const files = [...(currentTarget.files ?? [])];
        // Otherwise the same file could not be chosen again.
        currentTarget.value = '';
        uploading.take.run(files);
      }}
    />
  );
}

function UploadProgress({ upload: { file, sentBytes, cancel } }: { upload: CurrentUpload }) {
  // The last bytes are sent before the service has checked the last lines.
  const isSent = sentBytes >= file.size;
  return (
    <div class="upload-progress">
      <progress aria-label={`Upload of ${file.name}`} max={file.size} value={isSent ? undefined : sentBytes} />
      <p>
        {file.name}: {isSent ? 'sent, the service checks it' : `${bytesText(sentBytes)} of ${bytesText(file.size)}`}
      </p>
      <button type="button" onClick={cancel}>
        Cancel the upload
      </button>
    </div>
  );
}

const PROMPT_WORDS = /prompt|question|instruction|input|query|user|source/i;
const ANSWER_WORDS = /completion|answer|response|output|reply|assistant|target/i;

interface ColumnSelectsProps {
  asked: AskedColumns;
  answer: Uploading['answer'];
}

/** Asks which columns of a file are the prompt and the answer. */
function ColumnSelects({ asked: { file, columns }, answer }: ColumnSelectsProps) {
  const guessed = columnLike(columns, PROMPT_WORDS) ?? '';
  const [prompt, setPrompt] = useState(guessed);
  const [completion, setCompletion] = useState(
    columnLike(
      columns.filter((name) => name !== guessed),
      ANSWER_WORDS,
    ) ?? '',
  );
  const mapping = prompt === '' ? `text:${completion}` : `prompt:${prompt},completion:${completion}`;
  const isRight = completion !== '' && completion !== prompt;
  return (
    <section class="notice" aria-label={`Columns of ${file.name}`}>
      <p>{file.name} has other columns than rows have. Which of them are trained on?</p>
      <div class="field-row">
        <Field label="Prompt" help="What the model is asked. None: the answer is text to continue.">
          {(input) => <ColumnSelect {...{ input, columns }} none="none" chosen={prompt} onChoose={setPrompt} />}
        </Field>
        <Field
          label="Answer"
          help="What the model learns to write."
          error={completion !== '' && !isRight ? 'That is the prompt already.' : undefined}
        >
          {(input) => (
            <ColumnSelect {...{ input, columns }} none="Choose …" chosen={completion} onChoose={setCompletion} />
          )}
        </Field>
      </div>
      <div class="buttons">
        <button type="button" class="primary" disabled={!isRight} onClick={() => answer(mapping)}>
          Upload {file.name}
        </button>
        <button type="button" onClick={() => answer(null)}>
          Do not upload it
        </button>
      </div>
    </section>
  );
}

interface ColumnSelectProps {
  input: FieldInput;
  columns: readonly string[];
  /** The text of no choice. */
  none: string;
  chosen: string;
  onChoose: (name: string) => void;
}

function ColumnSelect({ input, columns, none, chosen, onChoose }: ColumnSelectProps) {
  return (
    <select {...input} value={chosen} onChange={({ currentTarget }) => onChoose(currentTarget.value)}>
      <option value="">{none}</option>
      {columns.map((name) => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
    </select>
  );
}

function StoredNotice({ dataset }: { dataset: Dataset }) {
  const { id, name, rows, format, warnings } = dataset;
  return (
    <div class="notice" role="status">
      <p>
        <Link to="/datasets/:id" params={{ id }}>
          {name ?? id}
        </Link>{' '}
        is stored: {countText(rows)} rows of {format}.
      </p>
      {warnings.length > 0 && <p class="notice-title">Warnings</p>}
      <FaultList faults={warnings} />
    </div>
  );
}
