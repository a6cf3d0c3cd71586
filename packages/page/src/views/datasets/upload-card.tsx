import { useState } from 'preact/hooks';
import { ErrorNotice } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { ColumnSelects, DropZone, FileInput, StoredNotice, UploadProgress } from './upload-parts.js';
import { useModelNames } from './use-model-names.js';
import { useUpload } from './use-upload.js';

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
