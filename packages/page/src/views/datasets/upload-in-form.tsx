import type { Dataset } from '@lorasmith/contracts';
import { ErrorNotice } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { ColumnSelects, DropZone, FileInput, StoredNotice, UploadProgress } from './upload-parts.js';
import { useUpload } from './use-upload.js';

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
