import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { chatRows, openaiJob, preferenceRows } from '../../../../test/openai-server.js';
import { FolderSource } from './folder-source.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorasmith-folder-source-'));
});
afterEach(() => rm(folder, { recursive: true }));

const put = (name: string, content: unknown) =>
  writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const one of items) found.push(one);
  return found;
}

const contentOf = async (id: string) => {
  const source = new FolderSource(folder);
  return Buffer.concat(await all(source.content(await source.file(id)))).toString();
};

it('has the jobs of jobs.json, and their files under their ids or their names', async () => {
  const data = [openaiJob('ftjob-2', { training_file: 'file-b' }), openaiJob('ftjob-1', { training_file: 'file-a' })];
  await put('jobs.json', { object: 'list', data, has_more: false });
  await put('files.json', { data: [{ id: 'file-b', filename: '../elsewhere/rows.jsonl' }] });
  await put('file-a.jsonl', chatRows(2, 'a'));
  await put('rows.jsonl', chatRows(2, 'b'));
  const source = new FolderSource(folder);
  expect((await all(source.jobs())).map(({ id }) => id)).toEqual(['ftjob-2', 'ftjob-1']);
  expect(await source.job('ftjob-1')).toMatchObject({ trainingFile: 'file-a', suffix: 'support' });
  expect([await contentOf('file-a'), await contentOf('file-b')]).toEqual([chatRows(2, 'a'), chatRows(2, 'b')]);
});

it('has a job for each file of rows where nothing describes jobs', async () => {
  await put('support.jsonl', chatRows(3));
  await put('support.validation.jsonl', chatRows(1, 'held out'));
  await put('tone.jsonl', preferenceRows(3));
  await put('notes.txt', 'not a job');
  const jobs = await all(new FolderSource(folder).jobs());
  expect(jobs.map(({ suffix, method }) => [suffix, method.type])).toEqual([
    ['tone', 'dpo'],
    ['support', 'supervised'],
  ]);
  const { trainingFile, validationFile } = jobs[1]!;
  expect(await contentOf(trainingFile)).toBe(chatRows(3));
  expect(await contentOf(validationFile!)).toBe(chatRows(1, 'held out'));
  expect(jobs[0]!.validationFile).toBeNull();
});

it('gives the same files the same ids, whatever they are called', async () => {
  await put('a.jsonl', chatRows(3));
  const [before] = await all(new FolderSource(folder).jobs());
  await rm(join(folder, 'a.jsonl'));
  await put('b.jsonl', chatRows(3));
  const [after] = await all(new FolderSource(folder).jobs());
  expect([after!.id, after!.trainingFile]).toEqual([before!.id, before!.trainingFile]);
  await put('b.jsonl', chatRows(4));
  expect((await all(new FolderSource(folder).jobs()))[0]!.id).not.toBe(before!.id);
});

it('says what is missing', async () => {
  await put('jobs.json', [openaiJob('ftjob-1')]);
  const source = new FolderSource(folder);
  await expect(source.file('file-train')).rejects.toMatchObject({
    code: 'openai_gone',
    message: expect.stringContaining('no file file-train.jsonl, nor file-train') as string,
  });
  await expect(source.job('ftjob-2')).rejects.toMatchObject({ code: 'openai_gone' });
  expect(await source.answer()).toBeNull();
});

it.each([
  ['without a file of rows', async () => {}],
  ['whose list is no JSON', () => put('jobs.json', '{"data": [')],
  ['whose list is no list', () => put('jobs.json', { data: {} })],
])('refuses a folder %s', async (_, prepare) => {
  await prepare();
  await expect(all(new FolderSource(folder).jobs())).rejects.toMatchObject({
    code: 'invalid_request',
    param: 'folder',
  });
});

it('refuses what is no folder', async () => {
  await expect(all(new FolderSource(join(folder, 'none')).jobs())).rejects.toMatchObject({ code: 'invalid_request' });
});

it('takes no folder for a file', async () => {
  await put('jobs.json', [openaiJob('ftjob-1')]);
  await mkdir(join(folder, 'file-train.jsonl'));
  await expect(new FolderSource(folder).file('file-train')).rejects.toMatchObject({ code: 'openai_gone' });
});
