import { stat } from 'node:fs/promises';
import { type Dataset, ProductError } from '@lorasmith/contracts';
import { digestOf } from '../resumable-download.js';
import { bytesText, countText } from '../text-output.js';
import type { CommandContext } from './command.js';
import { createTransferProgress } from './output.js';

export interface RowsFile {
  file: string;
  sha256: string;
  /** The columns of the file that rows have. */
  columns: string | undefined;
}

/** The dataset with the bytes of the file, which are sent only if the service does not have them. */
export async function storedDataset(context: CommandContext, { file, sha256, columns }: RowsFile): Promise<Dataset> {
  const { client, output, signal, json } = context;
  const [stored] = columns === undefined ? (await client.listDatasets({ sha256, limit: 1 }, { signal })).data : [];
  const { size } = await stat(file);
  const progress = createTransferProgress(output);
  const dataset =
    stored ??
    (await client
      .uploadDataset(
        { file },
        {
          columns,
          signal,
          onProgress: json ? undefined : (sent) => progress.handle({ receivedBytes: sent, totalBytes: size }),
        },
      )
      .finally(progress.end));
  if (json) return dataset;
  const { id, rows, format, bytes, warnings } = dataset;
  const origin = stored === undefined ? 'uploaded' : 'stored since an earlier upload';
  output.write(`${id}  ${countText(rows)} rows, ${format}, ${bytesText(bytes)}, ${origin}\n`);
  for (const { line, message } of warnings) {
    output.write(`warning       ${line === undefined ? '' : `line ${line}: `}${message}\n`);
  }
  return dataset;
}

/** The sha256 of a file of rows. @throws ProductError `invalid_request` if it cannot be read */
export async function digestOfRows(file: string): Promise<string> {
  return await digestOf(file).catch((cause: Error) => {
    throw new ProductError('invalid_request', `Cannot read ${file}: ${cause.message}`, { param: 'file', cause });
  });
}
