import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { expectFaults, heading, page, refusedWith, stack, tab, usePage } from './use-page.js';
import { dropFile, TIMEOUT_MS } from './watched-page.js';

// Uploads in the page: within the form of a new job, and of files whose columns have other names.

vi.setConfig({ testTimeout: 2 * TIMEOUT_MS });

usePage({ worker: false });
expectFaults(refusedWith(400, 422));

const ROWS = Array.from({ length: 12 }, (_, i) => `${JSON.stringify({ prompt: `Say ${i}.`, completion: `${i}` })}\n`);
const CSV = `id,question,answer\n${Array.from({ length: 12 }, (_, i) => `${i},Say ${i}.,"It is ${i}, I say."\n`).join('')}`;
const file = (name: string, text: string) => ({ name, mimeType: 'text/plain', buffer: Buffer.from(text) });
const field = (label: string) => page.getByLabel(label, { exact: true });
const columnsOf = (name: string) => page.getByRole('region', { name: `Columns of ${name}` });

test('a dataset is uploaded within the form of a job, and is chosen in it', async () => {
  await tab.open('/new-job');
  await heading('New job').waitFor();
  await field('Or upload a dataset').setInputFiles(file('in-form.jsonl', ROWS.join('')));
  await page.getByText('Checked: it can be started.').waitFor();
  const [stored] = (await stack.client.listDatasets()).data;
  expect(stored).toMatchObject({ name: 'in-form.jsonl', rows: 12 });
  expect(await field('Dataset (required)').inputValue()).toBe(stored!.id);
  await expect
    .poll(() => field('Dataset (required)').locator('option:checked').textContent())
    .toContain('in-form.jsonl: 12 rows');
});

test('a file with other columns is dropped on the form, and two choices say what they are', async () => {
  const dropped = path.join(stack.folder, 'faq.csv');
  await writeFile(dropped, CSV);
  await dropFile(page.locator('.drop-zone'), dropped);
  const asked = columnsOf('faq.csv');
  await asked.waitFor();
  expect(await asked.getByLabel('Prompt').inputValue()).toBe('question');
  expect(await asked.getByLabel('Answer').inputValue()).toBe('answer');
  expect(await asked.getByLabel('Answer').locator('option').allTextContents()).toEqual([
    'Choose …',
    'id',
    'question',
    'answer',
  ]);
  await asked.getByRole('button', { name: 'Upload faq.csv' }).click();
  await expect
    .poll(() => field('Dataset (required)').locator('option:checked').textContent())
    .toContain('faq.csv: 12 rows');
  const [stored] = (await stack.client.listDatasets()).data;
  const [row] = (await stack.client.datasetRows(stored!.id)).data;
  expect(JSON.parse(row!.text)).toEqual({ prompt: 'Say 0.', completion: 'It is 0, I say.' });
});

test('a file of one column to train on becomes text, and one that is not wanted is not sent', async () => {
  await tab.open('/datasets');
  await field('File').setInputFiles(file('poems.csv', 'title,poem\na,Roses are red\nb,Violets are blue\n'));
  const asked = columnsOf('poems.csv');
  await asked.getByRole('button', { name: 'Upload poems.csv' }).waitFor();
  expect(await asked.getByRole('button', { name: 'Upload poems.csv' }).isDisabled()).toBe(true);
  await asked.getByLabel('Answer').selectOption('poem');
  await asked.getByRole('button', { name: 'Upload poems.csv' }).click();
  await page.getByText('2 rows of text').waitFor();
  await field('File').setInputFiles(file('other.jsonl', '{"question": "a", "answer": "b"}\n'));
  await columnsOf('other.jsonl').getByRole('button', { name: 'Do not upload it' }).click();
  await expect.poll(() => columnsOf('other.jsonl').count()).toBe(0);
  expect((await stack.client.listDatasets()).data.map(({ name }) => name)).not.toContain('other.jsonl');
});

test('a file with columns that rows have is sent at once', async () => {
  await field('File').setInputFiles(file('known.csv', 'prompt,completion,id\na,b,1\nc,d,2\n'));
  await page.getByText('2 rows of prompt_completion').waitFor();
});
