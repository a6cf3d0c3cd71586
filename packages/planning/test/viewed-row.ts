import { join } from 'node:path';
import type { RowTokens, UploadedDataset } from '@lorasmith/contracts';
import { ModelTexts } from '@lorasmith/model-folder';
import { type RowEncoding, viewRows } from '../src/view-rows.js';
import { jsonLines, storeDataset } from './stored-dataset.js';
import { CHATML, tinyDecoder } from './tiny-model.js';

/** A dataset's only row as `GET /datasets/:id/rows` shows it, with the tokens of a tiny model with ChatML. */
export async function viewedRow(
  folder: string,
  format: UploadedDataset['format'],
  row: object,
  settings: Partial<RowEncoding['settings']> = {},
) {
  const preset = { max_seq_length: 1024, on_overflow: 'error', completion_format: 'chat' } as const;
  const model = await tinyDecoder('qwen2', CHATML);
  const encoding = { model, texts: new ModelTexts(), settings: { ...preset, ...settings } };
  const rowsFile = join(folder, 'data.jsonl');
  const dataset = await storeDataset(rowsFile, format, jsonLines([row]));
  const { data } = await viewRows({ dataset, rowsFile, after: 0, limit: 1, encoding });
  return data[0]!;
}

/** The text of tokens, with what is trained in brackets. */
export function markedText(tokens: RowTokens): string {
  const text = tokens.data.map((token) => (token.trained ? `[${token.text}]` : token.text)).join('');
  return text.replaceAll('][', '');
}
