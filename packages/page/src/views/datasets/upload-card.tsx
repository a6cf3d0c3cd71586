import { bytesText } from '@lorasmith/client/core';
import { type Dataset, ProductError } from '@lorasmith/contracts';
import { useRef, useState } from 'preact/hooks';
import { ErrorNotice, FaultList } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { Link } from '../../components/link.js';
import { notify } from '../../components/toasts.js';
import { clientWith } from '../../service/service.js';
import { session } from '../../service/session.js';
import { fetchWithProgress } from '../../service/upload-fetch.js';
import { useAction } from '../../service/use-action.js';
import { useModelNames } from './use-model-names.js';

interface Upload {
  file: File;
  sentBytes: number;
  cancel: () => void;
}

/** The most characters that the service takes as a name. */
const NAME_CHARACTERS = 128;

/** Uploads a file that is chosen or dropped. */
export function UploadCard({ onStored }: { onStored: () => void }) {
  const [baseModel, setBaseModel] = useState('');
  const [columns, setColumns] = useState('');
  const [isOver, setOver] = useState(false);
  const [current, setCurrent] = useState<Upload | null>(null);
  const [stored, setStored] = useState<Dataset | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const models = useModelNames();

  const upload = useAction(async (left, files: readonly File[]) => {
    setStored(null);
    const file = oneOf(files);
    const cancelled = new AbortController();
    const begun = { file, sentBytes: 0, cancel: () => cancelled.abort() };
    setCurrent(begun);
    const client = clientWith(
      session.get().key,
      fetchWithProgress((sentBytes) => setCurrent({ ...begun, sentBytes })),
    );
    try {
      const name = [...file.name].slice(0, NAME_CHARACTERS).join('');
      const options = { name, signal: AbortSignal.any([left, cancelled.signal]) };
      const rows = { columns: columns.trim() || undefined, baseModel: baseModel || undefined };
      const dataset = await client.uploadDataset({ blob: file }, { ...options, ...rows });
      setStored(dataset);
      notify(`${dataset.name ?? dataset.id} is stored.`);
      onStored();
    } catch (error) {
      if (!cancelled.signal.aborted) throw error;
      notify('The upload was cancelled.');
    } finally {
      setCurrent(null);
      // Otherwise the same file could not be chosen again.
      if (input.current !== null) input.current.value = '';
    }
  });

  return (
    <section
      class={isOver ? 'card drop-zone drop-zone-over' : 'card drop-zone'}
      aria-labelledby="upload-title"
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
        upload.run([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      <h2 id="upload-title">Upload</h2>
      <p>
        Drop a file of rows here, or choose one: JSONL, JSON, CSV or Parquet. Every row is checked before it is stored.
      </p>
      <div class="field-row">
        <Field label="File">
          {(field) => (
            <input
              {...field}
              ref={input}
              type="file"
              accept=".jsonl,.ndjson,.json,.csv,.tsv,.parquet,.txt,.gz,.zst"
              disabled={upload.isBusy}
              onChange={(event) => upload.run([...(event.currentTarget.files ?? [])])}
            />
          )}
        </Field>
        <Field label="Columns" help="Only if they have other names: prompt:question,completion:answer.">
          {(field) => (
            <input
              {...field}
              value={columns}
              spellcheck={false}
              disabled={upload.isBusy}
              onInput={(event) => setColumns(event.currentTarget.value)}
            />
          )}
        </Field>
        <Field label="Tokenize for" help="Optional: the first job on this model starts sooner.">
          {(field) => (
            <select
              {...field}
              value={baseModel}
              disabled={upload.isBusy}
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
      {current !== null && <UploadProgress upload={current} />}
      <ErrorNotice error={upload.error} what="The file was not stored" />
      {stored !== null && <StoredNotice dataset={stored} />}
    </section>
  );
}

function oneOf(files: readonly File[]): File {
  const [file, ...others] = files;
  if (file !== undefined && others.length === 0) return file;
  const message = file === undefined ? 'That was no file. Drop a file.' : 'Drop one file at a time.';
  throw new ProductError('invalid_request', message);
}

function UploadProgress({ upload: { file, sentBytes, cancel } }: { upload: Upload }) {
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

function StoredNotice({ dataset }: { dataset: Dataset }) {
  const { id, name, rows, format, warnings } = dataset;
  return (
    <div class="notice" role="status">
      <p>
        <Link to="/datasets/:id" params={{ id }}>
          {name ?? id}
        </Link>{' '}
        is stored: {rows.toLocaleString()} rows of {format}.
      </p>
      {warnings.length > 0 && <p class="notice-title">Warnings</p>}
      <FaultList faults={warnings} />
    </div>
  );
}
