import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/**
 * The first rows of a JSONL file, in a format that the product accepts: `question` and `answer` become prompt and completion.
 *
 * @param {string} file
 * @param {number} count
 */
export async function readBenchRows(file, count) {
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n').slice(0, count);
  const rows = lines.map((line) => {
    const row = JSON.parse(line);
    return 'question' in row ? { prompt: row.question, completion: row.answer } : row;
  });
  const [first = {}] = rows;
  if ('chosen' in first) return datasetOf(rows, 'preference');
  if ('reference' in first) return datasetOf(rows, 'graded_prompt');
  return datasetOf(rows, 'prompt' in first ? 'prompt_completion' : 'messages');
}

/**
 * @param {unknown[]} rows
 * @param {'messages' | 'prompt_completion' | 'preference' | 'graded_prompt' | 'text'} format
 */
export function datasetOf(rows, format) {
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  const sha256 = createHash('sha256').update(text).digest('hex');
  /** @type {import('../../packages/contracts/dist/index.js').UploadedDataset} */
  const dataset = {
    id: `ds_${sha256.slice(0, 24)}`,
    object: 'dataset',
    owner: null,
    sha256,
    name: null,
    format,
    rows: rows.length,
    bytes: Buffer.byteLength(text),
    features: null,
    warnings: [],
    created_at: new Date().toISOString(),
  };
  return { text, dataset };
}
