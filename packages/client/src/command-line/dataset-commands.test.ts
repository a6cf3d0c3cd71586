import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { json } from '../../test/http-server.js';
import { lora } from '../../test/run-lora.js';
import { EXIT } from './run-command-line.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorasmith-cli-'));
});
afterEach(() => rm(folder, { recursive: true }));

describe('lora', () => {
  it('converts a file to JSONL, without the service', async () => {
    const file = join(folder, 'rows.csv.gz');
    const out = join(folder, 'rows.jsonl');
    await writeFile(file, gzipSync('id,question,answer\n1,a,b\n\n2,"c\nd",e\n'));
    const convert = ['datasets', 'convert', file, '-o', out];
    const { output, requests } = await lora([...convert, '--columns', 'prompt:question,completion:answer']);
    expect(output).toBe(
      `2 rows are in ${out}\n"question" became "prompt", "answer" became "completion"\nleft out: id\n`,
    );
    expect(requests).toEqual([]);
    expect(await readFile(out, 'utf8')).toBe('{"prompt":"a","completion":"b"}\n{"prompt":"c\\nd","completion":"e"}\n');
    expect(await lora(convert)).toMatchObject({
      exitCode: EXIT.failed,
      errorOutput: expect.stringContaining('exists'),
    });
    expect((await lora([...convert, '--force'])).output).toBe(`2 rows are in ${out}\n`);
    expect(await readFile(out, 'utf8')).toContain('{"id":"1","question":"a","answer":"b"}\n');
    const missing = await lora([...convert, '--force', '--columns', 'text:body']);
    expect(missing).toMatchObject({ exitCode: EXIT.failed, errorOutput: expect.stringContaining('no column "body"') });
    expect(await readdir(folder)).toEqual(['rows.csv.gz', 'rows.jsonl']);
  });

  it('converts numbers as they stand in the file', async () => {
    const [file, out] = [join(folder, 'priced.json'), join(folder, 'priced.jsonl')];
    const answer = '{"price":12.50,"id":9007199254740993}';
    await writeFile(file, `[{"question": "a", "answer": ${answer}}]`);
    await lora(['datasets', 'convert', file, '-o', out, '--columns', 'prompt:question,reference:answer']);
    expect(await readFile(out, 'utf8')).toBe(`{"prompt":"a","reference":${answer}}\n`);
  });

  it('converts Parquet with all of its columns', async () => {
    const file = fileURLToPath(new URL('../../../row-files/src/fixtures/pairs-zstd.parquet', import.meta.url));
    const out = join(folder, 'pairs.jsonl');
    expect((await lora(['datasets', 'convert', file, '-o', out])).output).toBe(`300 rows are in ${out}\n`);
    const [first = ''] = (await readFile(out, 'utf8')).split('\n');
    expect(Object.keys(JSON.parse(first))).toEqual(['id', 'prompt', 'completion']);
  });

  it('names the line of a file that it cannot convert', async () => {
    const file = join(folder, 'rows.jsonl');
    await writeFile(file, '{"text":"a"}\n7\n');
    const { exitCode, errorOutput } = await lora(['datasets', 'convert', file, '-o', join(folder, 'out.jsonl')]);
    expect([exitCode, errorOutput]).toEqual([
      EXIT.failed,
      expect.stringContaining('Line 2 is wrong. A row is an object.'),
    ]);
    expect(await readdir(folder)).toEqual(['rows.jsonl']);
  });

  it('says which columns an upload has', async () => {
    const file = join(folder, 'rows.csv');
    await writeFile(file, 'a\n');
    const dataset = { id: 'ds_1', name: 'rows.csv', format: 'text', rows: 1, bytes: 12, warnings: [] };
    const { requests } = await lora(['datasets', 'upload', file, '--columns', 'text:a'], json(201, dataset));
    expect(requests[0]?.url).toBe('/datasets?name=rows.csv&columns=text%3Aa');
  });

  it('has an upload tokenized for a base model, and shows how far that is', async () => {
    const file = join(folder, 'rows.jsonl');
    await writeFile(file, '{"text":"a"}');
    const dataset = { id: 'ds_1', name: 'rows.jsonl', format: 'text', rows: 1, bytes: 12, warnings: [] };
    const { requests } = await lora(['datasets', 'upload', file, '--base-model', 'tiny'], json(201, dataset));
    expect(requests[0]?.url).toBe('/datasets?name=rows.jsonl&base_model=tiny');
    const show = async (tokens: object) => {
      const answer = { dataset: 'ds_1', base_model: 'tiny', rows: 9_728, total_rows: 46_864, error: null, ...tokens };
      return await lora(['datasets', 'show', 'ds_1', '--base-model', 'tiny'], json(200, answer));
    };
    const preparing = await show({ status: 'preparing' });
    expect(preparing.requests[0]?.url).toBe('/datasets/ds_1/tokens?base_model=tiny');
    expect(preparing.output).toBe('ds_1  tokens for tiny: preparing, 9,728 of 46,864 rows\n');
    const error = { code: 'x', message: 'One row is wrong.', details: [{ code: 'x', message: 'Empty.', line: 3 }] };
    expect((await show({ status: 'failed', error })).output).toBe(
      'ds_1  tokens for tiny: failed\nx: One row is wrong.\n  line 3: Empty.\n',
    );
  });
});
