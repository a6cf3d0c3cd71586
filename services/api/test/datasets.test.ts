import { once } from 'node:events';
import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import {
  Dataset,
  DatasetPage,
  DatasetRowPage,
  DatasetTokens,
  ErrorBody,
  type Job,
  type Paged,
} from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { jsonOf } from './json-of.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

let server: RealRedis;
let api: RealApi;
let url: string;

beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});

/** A file of the tests of `row-files`. */
const fixture = (name: string) => readFile(path.join(ROW_FILES, name));
const CONVERSATIONS = fileURLToPath(
  new URL('../../../packages/planning/test/fixtures/conversations/cases.json', import.meta.url),
);
const FOR_EVER = fileURLToPath(new URL('fixtures/read-for-ever.mjs', import.meta.url));
const ROW_FILES = fileURLToPath(new URL('../../../packages/row-files/src/fixtures', import.meta.url));

/** The first rows of a dataset with their lines. */
async function rowsOf({ id }: Dataset) {
  const { data } = (await (await fetch(`${url}/datasets/${id}/rows`)).json()) as DatasetRowPage;
  return data.map(({ line, text }) => [line, JSON.parse(text)]);
}

async function upload(body: string | Uint8Array, headers: Record<string, string> = {}, query = '') {
  const answer = await fetch(`${url}/datasets${query}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson', ...headers },
    body,
  });
  return { status: answer.status, body: await jsonOf<Dataset & ErrorBody>(answer), headers: answer.headers };
}

/** The faults of a refused upload. Checks that it left no files. */
async function refused(body: string | Uint8Array, headers?: Record<string, string>) {
  const before = await stored();
  const answer = await upload(body, headers);
  expect(Value.Check(ErrorBody, answer.body)).toBe(true);
  expect(await stored()).toEqual(before);
  const { code, message, details } = answer.body.error;
  return { status: answer.status, code, message, faults: details.map(({ line, code: at }) => [line, at]) };
}

async function stored() {
  return {
    datasets: await readdir(path.join(api.folder, 'datasets')),
    staging: await readdir(path.join(api.folder, '.staging')),
  };
}

describe('an upload', () => {
  test('becomes a dataset with an id from its bytes, and the same bytes are the same dataset', async () => {
    const first = await upload(promptRows(5), {}, '?name=five');
    expect(first.status).toBe(201);
    expect(Value.Check(Dataset, first.body)).toBe(true);
    expect(first.body).toMatchObject({
      name: 'five',
      format: 'prompt_completion',
      rows: 5,
      features: null,
      warnings: [],
    });
    expect(first.body.id).toBe(`ds_${first.body.sha256.slice(0, 24)}`);
    expect(first.headers.get('location')).toBe(`/datasets/${first.body.id}`);
    const again = await upload(promptRows(5), {}, '?name=other');
    expect([again.status, again.body]).toEqual([200, first.body]);
    expect(await (await fetch(`${url}/datasets/${first.body.id}`)).json()).toEqual(first.body);
  });

  test('an upload of the same bytes, sent several times at once, is one dataset', async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => upload(promptRows(7, 'at once'))));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(4);
    expect(new Set(answers.map(({ body }) => JSON.stringify(body))).size).toBe(1);
  });

  test.each([
    [
      'messages',
      '{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"}]}',
      'messages',
      null,
    ],
    ['instruction', '{"instruction":"a","output":"b"}', 'instruction', null],
    ['text', '{"text":"once"}', 'text', null],
    ['features', '{"features":[1,2.5,-3e2],"label":1}', 'features', 3],
    ['a byte order mark and no last newline', '\ufeff{"text":"marked"}', 'text', null],
    ['CRLF and blank lines', '\r\n{"text":"a"}\r\n\r\n{"text":"b"}\r\n', 'text', null],
  ])('an upload with %s is accepted', async (_name, body, format, features) => {
    const answer = await upload(body);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({ format, features });
  });

  test('an upload with duplicate rows is accepted with a warning', async () => {
    const { body } = await upload('{"text":"x"}\n{"text":"y"}\n{"text":"x"}\n{"text":"x"}\n');
    expect(body.rows).toBe(4);
    expect(body.warnings).toMatchObject([{ code: 'duplicate_rows', line: 3 }]);
  });

  test('an upload of ShareGPT becomes messages, and the answer names what was mapped and left out', async () => {
    const sharegpt = '{"id":1,"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}\n';
    const stored = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n';
    const { status, body } = await upload(sharegpt);
    expect([status, body.format, body.bytes]).toEqual([201, 'messages', stored.length]);
    const codes = (dataset: Dataset) => dataset.warnings.map(({ code, line }) => [code, line]);
    const changes = [
      ['rows_mapped', 1],
      ['columns_left_out', 1],
    ];
    expect(codes(body)).toEqual(changes);
    const { data } = (await (await fetch(`${url}/datasets/${body.id}/rows`)).json()) as DatasetRowPage;
    expect(data.map(({ text }) => `${text}\n`)).toEqual([stored]);
    // The warnings of an answer are about what was sent.
    const same = await upload(stored);
    expect([same.status, same.body.id, same.body.warnings]).toEqual([200, body.id, []]);
    const again = await upload(sharegpt);
    expect([again.status, again.body.id, codes(again.body)]).toEqual([200, body.id, changes]);
  });

  test('can be a JSON array, also in a gzip file, and is stored as JSONL', async () => {
    const array = JSON.stringify([{ text: 'one\n[1]' }, { text: 'two', id: 2 }], null, 2);
    const { status, body } = await upload(array, { 'content-type': 'application/json' });
    expect([status, body.rows, body.format]).toEqual([201, 2, 'text']);
    const { data } = (await (await fetch(`${url}/datasets/${body.id}/rows`)).json()) as DatasetRowPage;
    expect(data.map(({ line, text }) => [line, JSON.parse(text)])).toEqual([
      [1, { text: 'one\n[1]' }],
      [2, { text: 'two' }],
    ]);
    const same = await upload(gzipSync(array));
    expect([same.status, same.body.id]).toEqual([200, body.id]);
  });

  test('can be a gzip file, and is stored unpacked', async () => {
    const { status, body } = await upload(gzipSync(promptRows(20, 'gzip')), { 'content-type': 'application/gzip' });
    expect([status, body.rows, body.bytes]).toEqual([201, 20, promptRows(20, 'gzip').length]);
    const form = new FormData();
    form.set('file', new Blob([gzipSync(promptRows(20, 'gzip'))]), 'rows.jsonl.gz');
    const same = await fetch(`${url}/datasets`, { method: 'POST', body: form });
    expect([same.status, (await jsonOf<Dataset>(same)).id]).toEqual([200, body.id]);
  });

  test('an upload that is a gzip file meets the limit of bytes with what comes out of it', async () => {
    const bomb = gzipSync(Buffer.alloc(20_000_000, `{"text":"${'a'.repeat(5_000)}"}\n`));
    expect(bomb.length).toBeLessThan(100_000);
    const { status, code, message } = await refused(bomb);
    expect([status, code, message]).toEqual([413, 'body_too_large', expect.stringContaining('unpacked file')]);
  });

  test('can be CSV, and the line of a row is that of a spreadsheet', async () => {
    const csv = 'prompt,completion,id\n"a, b",c,1\n\nd,"e\n""f"" g",2\n';
    const { status, body } = await upload(csv, { 'content-type': 'text/csv' });
    expect([status, body.rows, body.format]).toEqual([201, 2, 'prompt_completion']);
    expect(body.warnings.map(({ code, line }) => [code, line])).toEqual([['columns_left_out', 2]]);
    expect(await rowsOf(body)).toEqual([
      [2, { prompt: 'a, b', completion: 'c' }],
      [4, { prompt: 'd', completion: 'e\n"f" g' }],
    ]);
    const { faults, message } = await refused('prompt,completion\na,b\nc\n');
    expect(faults).toEqual([[3, 'invalid_dataset']]);
    expect(message).toMatch(/^Row 3 .* Nothing was stored\.$/);
  });

  test('can be Parquet of several writers', async () => {
    const { status, body } = await upload(await fixture('pairs-snappy.parquet'));
    expect([status, body.rows, body.format]).toEqual([201, 300, 'prompt_completion']);
    expect(body.warnings).toMatchObject([{ code: 'columns_left_out', message: expect.stringContaining(': "id".') }]);
    expect((await rowsOf(body))[0]).toEqual([1, { prompt: 'Frage 0: wie heißt 0?', completion: 'Zahl 0 😀' }]);
    const same = await upload(await fixture('pairs-polars.parquet'), { 'content-type': 'application/octet-stream' });
    expect([same.status, same.body.id]).toEqual([200, body.id]);
    const chats = await upload(await fixture('chats.parquet'));
    expect([chats.body.rows, chats.body.format]).toEqual([20, 'messages']);
  });

  test('can be a zstd file, and meets the limit of rows with what comes out of it', async () => {
    const { status, body } = await upload(await fixture('file.jsonl.zst'), { 'content-type': 'application/zstd' });
    expect([status, body.rows, body.format]).toEqual([201, 30, 'prompt_completion']);
    const many = await refused(await fixture('level-3.zst'));
    expect(many).toMatchObject({ status: 422, faults: [[1_001, 'invalid_dataset']] });
  });

  test('an upload that is a damaged Parquet file is refused', async () => {
    const { status, code, message } = await refused((await fixture('pairs-snappy.parquet')).subarray(0, -1));
    expect([status, code, message]).toEqual([422, 'invalid_dataset', expect.stringContaining('damaged or incomplete')]);
  });

  test('has the columns that the upload names', async () => {
    const columns = '?columns=prompt:question,completion:answer';
    const { body } = await upload('{"id":1,"question":"a","answer":"b"}\n', {}, columns);
    expect(await rowsOf(body)).toEqual([[1, { prompt: 'a', completion: 'b' }]]);
    expect(body.warnings).toEqual([
      { code: 'rows_mapped', message: '"question" became "prompt", "answer" became "completion".', line: 1 },
      { code: 'columns_left_out', message: 'Columns that are not used were left out: "id".', line: 1 },
    ]);
    const csv = await upload('id;question;answer\n1;a;b\n', {}, columns);
    expect(await rowsOf(csv.body)).toEqual([[2, { prompt: 'a', completion: 'b' }]]);
    const parquet = await upload(await fixture('pairs-zstd.parquet'), {}, '?columns=text:completion');
    expect((await rowsOf(parquet.body))[1]).toEqual([2, { text: 'Zahl 1 😀' }]);
    const wrong = await upload('{"question":"a"}', {}, columns);
    expect([wrong.status, wrong.body.error.details]).toMatchObject([422, [{ line: 1, param: 'answer' }]]);
    const unknown = await upload('{"question":"a"}', {}, '?columns=question:prompt');
    expect([unknown.status, unknown.body.error.param]).toEqual([400, 'columns']);
  });

  test('an upload whose columns are none of a row is refused, and the answer says how to name them', async () => {
    const { status, message } = await refused('question,answer\na,b\n');
    expect([status, message]).toEqual([422, expect.stringContaining('columns=prompt:NAME,completion:NAME')]);
  });

  test.each([
    ['a PDF', Buffer.from('%PDF-1.7\n%\xe2\xe3\xcf\xd3', 'latin1')],
    ['text in UTF-16', Buffer.from('\ufeff{"text":"a"}', 'utf16le')],
    ['a gzip file of a tar archive', gzipSync(Buffer.from(`${'\0'.repeat(257)}ustar`))],
  ])('an upload of %s is refused by that name', async (name, bytes) => {
    const { status, code, message } = await refused(bytes);
    expect([status, code, message]).toEqual([422, 'invalid_dataset', expect.stringContaining(`This is ${name}.`)]);
  });

  test('an upload that would be misunderstood without a column is refused', async () => {
    const { faults } = await refused('{"messages":[{"role":"assistant","content":"b"}],"label":false}');
    expect(faults).toEqual([[1, 'invalid_dataset']]);
  });

  test('can be a form with its name before or after the file', async () => {
    for (const [order, name] of [
      ['before', 'first'],
      ['after', 'last'],
    ] as const) {
      const form = new FormData();
      if (order === 'before') form.set('name', name);
      form.set('file', new Blob([promptRows(3, order)]), 'rows.jsonl');
      if (order === 'after') form.set('name', name);
      const answer = await fetch(`${url}/datasets`, { method: 'POST', body: form });
      expect(answer.status).toBe(201);
      expect(await answer.json()).toMatchObject({ name, rows: 3 });
    }
  });

  test('has the same limit of characters for its name in a form as in a query', async () => {
    const named = async (name: string, inForm: boolean) => {
      const form = new FormData();
      if (inForm) form.set('name', name);
      form.set('file', new Blob([promptRows(3, `named ${inForm}`)]), 'rows.jsonl');
      const query = inForm ? '' : `?name=${encodeURIComponent(name)}`;
      return (await fetch(`${url}/datasets${query}`, { method: 'POST', body: form })).status;
    };
    for (const inForm of [false, true]) {
      expect(await named('😀'.repeat(128), inForm)).toBe(201);
      for (const more of [1, 200]) expect(await named('😀'.repeat(128 + more), inForm)).toBe(400);
    }
  });

  test.each([
    ['without a file', (form: FormData) => form.set('name', 'x'), 400, 'invalid_request'],
    ['with another part', (form: FormData) => form.set('rows', 'x'), 400, 'unknown_field'],
    [
      'with the file under another name',
      (form: FormData) => form.set('data', new Blob(['{}']), 'f'),
      400,
      'unknown_field',
    ],
    ['with an empty name', (form: FormData) => form.set('name', ''), 400, 'invalid_request'],
    [
      'with two files',
      (form: FormData) => {
        form.append('file', new Blob([promptRows(2, 'two')]), 'a');
        form.append('file', new Blob([promptRows(2, 'files')]), 'b');
      },
      400,
      'invalid_request',
    ],
    ['with a bad line', (form: FormData) => form.set('file', new Blob(['{"text":1}']), 'f'), 422, 'invalid_dataset'],
    ['too large', (form: FormData) => form.set('file', new Blob(['x'.repeat(300_000)]), 'f'), 413, 'body_too_large'],
  ] as const)('an upload as a form %s is refused', async (_name, fill, status, code) => {
    const before = await stored();
    const form = new FormData();
    fill(form);
    const answer = await fetch(`${url}/datasets`, { method: 'POST', body: form });
    expect([answer.status, (await jsonOf(answer)).error.code]).toEqual([status, code]);
    expect(await stored()).toEqual(before);
  });

  test('an upload that is a truncated form is refused', async () => {
    const body = '--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n{"text":"a"}';
    const answer = await refused(body, { 'content-type': 'multipart/form-data; boundary=b' });
    expect(answer.status).toBe(400);
  });
});

describe('an upload with base_model', () => {
  const tokensOf = async (id: string, model = 'tiny-llama') => {
    const answer = await fetch(`${url}/datasets/${id}/tokens?base_model=${model}`);
    return await jsonOf<DatasetTokens & ErrorBody>(answer);
  };
  const prepared = (id: string, model?: string) =>
    expect.poll(async () => (await tokensOf(id, model)).status).toMatch(/ready|failed/);

  test('is tokenized in the background', async () => {
    const { status, body } = await upload(promptRows(5, 'tokens'), {}, '?base_model=tiny-llama&name=five');
    expect([status, body.name]).toEqual([201, 'five']);
    await prepared(body.id);
    const tokens = await tokensOf(body.id);
    expect(Value.Check(DatasetTokens, tokens)).toBe(true);
    expect(tokens).toEqual({
      object: 'dataset_tokens',
      dataset: body.id,
      base_model: 'tiny-llama',
      status: 'ready',
      rows: 5,
      total_rows: 5,
      error: null,
    });
    const again = await upload(promptRows(5, 'tokens'), {}, '?base_model=tiny-llama');
    expect([again.status, (await tokensOf(body.id)).status]).toEqual([200, 'ready']);
    await fetch(`${url}/datasets/${body.id}`, { method: 'DELETE' });
    expect((await tokensOf(body.id)).error.code).toBe('dataset_not_found');
  });

  test('shows what is wrong with its rows for this model, which a job reports, too', async () => {
    const models = path.join(api.folder, 'models');
    await cp(path.join(models, 'tiny-llama'), path.join(models, 'strict'), { recursive: true });
    const template = path.join(models, 'strict/chat_template.jinja');
    const refuse = "{% if 'row 1' in messages[0].content %}{{ raise_exception('No row 1.') }}{% endif %}";
    await writeFile(template, refuse + (await readFile(template, 'utf8')));

    const { status, body } = await upload(promptRows(12), {}, '?base_model=strict');
    expect(status).toBe(201);
    await prepared(body.id, 'strict');
    const tokens = (await tokensOf(body.id, 'strict')) as DatasetTokens;
    const lines = tokens.error?.details.map(({ line }) => line);
    expect([tokens.status, tokens.error?.code, lines]).toEqual(['failed', 'chat_template_failed', [2, 11, 12]]);
    const answer = await fetch(`${url}/jobs`, {
      method: 'POST',
      body: JSON.stringify({ base_model: 'strict', dataset: body.id }),
      headers: { 'content-type': 'application/json' },
    });
    expect((await jsonOf(answer)).error).toMatchObject({ ...tokens.error });
  });

  test('an upload with base_model that names no model is refused before it is stored', async () => {
    const before = await stored();
    const answer = await upload(promptRows(2, 'no model'), {}, '?base_model=nope');
    expect([answer.status, answer.body.error.code]).toEqual([404, 'model_not_found']);
    expect(await stored()).toEqual(before);
    const { body } = await upload(promptRows(2, 'no model'));
    expect((await tokensOf(body.id, 'nope')).error.code).toBe('model_not_found');
    expect((await tokensOf(body.id)).status).toBe('none');
  });
});

describe('the answer for invalid lines', () => {
  test('lists every line with its number and code', async () => {
    const lines = [
      '{"text":"good"}',
      '{"text":',
      '{"text":"good"}',
      '{"text":7}',
      '{"prompt":"a","completion":"b"}',
      '{"messages":[{"role":"user","content":"a","__proto__":{"x":1}}]}',
      '[]',
      `{"text":"${'x'.repeat(20_000)}"}`,
      '{"messages":[{"role":"user","content":"hi"}]}',
      `{"text":${'['.repeat(500)}${']'.repeat(500)}}`,
      '{"text":""}',
    ];
    const answer = await refused(lines.join('\n'));
    expect(answer.status).toBe(422);
    expect(answer.code).toBe('invalid_dataset');
    expect(answer.message).toMatch(/^9 lines are wrong/);
    expect(answer.faults).toEqual([
      [2, 'invalid_json'],
      [4, 'invalid_dataset'],
      [5, 'invalid_dataset'],
      [6, 'unknown_field'],
      [7, 'invalid_dataset'],
      [8, 'invalid_dataset'],
      [9, 'no_trained_tokens'],
      [10, 'invalid_dataset'],
      [11, 'no_trained_tokens'],
    ]);
  });

  test('has one fault for a row in many lines', async () => {
    const answer = await refused('{\n  "text": "a"\n}\n');
    expect([answer.code, answer.faults]).toEqual(['invalid_dataset', [[1, 'invalid_dataset']]]);
  });

  test('has the number of the element as the line in a JSON array', async () => {
    const answer = await refused(JSON.stringify([{ text: 'a' }, { text: 7 }, { text: 'b' }, { txt: 'c' }], null, 2));
    expect(answer.faults.map(([line]) => line)).toEqual([2, 4]);
  });

  test('lists a hundred faults and checks no further lines', async () => {
    const answer = await refused('{"text":1}\n'.repeat(250));
    expect(answer.faults).toHaveLength(100);
    expect(answer.message).toBe('At least 100 lines are wrong; checking stopped after line 100. Nothing was stored.');
  });

  test('reports bytes that are not UTF-8', async () => {
    const bytes = Buffer.concat([Buffer.from('{"text":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}\n{"text":"a"}')]);
    expect((await refused(bytes)).faults).toEqual([[1, 'invalid_dataset']]);
  });

  test('reports features of different widths and invalid labels', async () => {
    const rows = [
      '{"features":[1,2],"label":0}',
      '{"features":[1],"label":0}',
      '{"features":[1,2],"label":1.5}',
      '{"features":[1,1e999],"label":1}',
    ];
    expect((await refused(rows.join('\n'))).faults.map(([line]) => line)).toEqual([2, 3, 4]);
  });

  test('reports too many rows', async () => {
    expect((await refused('{"text":"a"}\n'.repeat(1_001))).faults).toEqual([[1_001, 'invalid_dataset']]);
  });
});

describe('an upload of curl', () => {
  const CURL = { 'content-type': 'application/x-www-form-urlencoded' };

  test('an upload with the content type that curl sends by itself is known by its bytes', async () => {
    const csv = 'question,answer\nof curl?,yes\nof bytes?,too\n';
    const mapped = await upload(csv, CURL, '?columns=prompt:question,completion:answer');
    expect([mapped.status, mapped.body.rows, mapped.body.format]).toEqual([201, 2, 'prompt_completion']);
    expect((await upload(gzipSync(promptRows(4, 'of curl')), CURL)).status).toBe(201);
  });

  test('an upload without a content type is known by its bytes', async () => {
    const sent = httpRequest(`${url}/datasets`, { method: 'POST' });
    sent.end(promptRows(4, 'without a type'));
    const [answer] = await once(sent, 'response');
    answer.resume();
    expect(answer.statusCode).toBe(201);
  });

  test('an upload whose line ends curl has removed is refused with how to send it', async () => {
    const { code, message } = await refused(promptRows(4).replaceAll('\n', ''), CURL);
    expect(code).toBe('invalid_dataset');
    expect(message).toMatch(/ If curl sent it with -d, .* use --data-binary\.$/);
  });
});

describe('an upload is refused', () => {
  test.each([
    ['empty', '', {}, 422, 'dataset_empty'],
    ['only blank lines', '\n \n\r\n', {}, 422, 'dataset_empty'],
    ['too large', promptRows(6_000), {}, 413, 'body_too_large'],
    ['compressed', 'x', { 'content-encoding': 'gzip' }, 415, 'unsupported_media_type'],
    ['of another type', 'x', { 'content-type': 'image/png' }, 415, 'unsupported_media_type'],
  ])('an upload is refused when it is %s', async (_name, body, headers, status, code) => {
    const answer = await refused(body, headers as Record<string, string>);
    expect([answer.status, answer.code]).toEqual([status, code]);
  });

  test('an upload of JSONL without a column of a row is refused with its columns, as a CSV file is', async () => {
    const rows = '{"question":"a","answer":"b"}\n'.repeat(2);
    const { body } = await upload(rows);
    const csv = await upload('question,answer\na,b\n', { 'content-type': 'text/csv' });
    const listed =
      'has the columns "question", "answer", none of which a row has. Say what they are, such as columns=prompt:NAME';
    expect(body.error.details[0]?.message).toContain(listed);
    expect(csv.body.error.message).toContain(listed);
    expect((await upload(rows, {}, '?columns=prompt:question,completion:answer')).status).toBe(201);
  });

  test('an upload is refused when it is too large without a declared length', async () => {
    async function* endless() {
      for (;;) yield Buffer.from(`{"text":"${'a'.repeat(10_000)}"}\n`);
    }
    const before = await stored();
    const answer = await fetch(`${url}/datasets`, {
      method: 'POST',
      headers: { 'content-type': 'application/jsonl' },
      body: endless(),
      duplex: 'half',
    } as unknown as RequestInit);
    expect([answer.status, (await jsonOf(answer)).error.code]).toEqual([413, 'body_too_large']);
    expect(await stored()).toEqual(before);
  });

  test('an upload is refused when its sender disconnects, and no files are left', async () => {
    const before = await stored();
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    await once(socket, 'connect');
    socket.write(
      'POST /datasets HTTP/1.1\r\nhost: x\r\ncontent-type: application/jsonl\r\ncontent-length: 5000\r\n\r\n',
    );
    socket.write('{"text":"a"}\n');
    await expect.poll(async () => (await stored()).staging.length).toBe(before.staging.length + 1);
    socket.destroy();
    await expect.poll(stored).toEqual(before);
  });
});

test('the reading of a file ends when its sender leaves', async () => {
  const fileReader = { file: FOR_EVER, environment: { PATH: process.env.PATH } };
  const other = await startRealApi({
    redisUrl: server.url,
    prefix: `${server.prefix}reading:`,
    changes: { fileReader },
  });
  onTestFinished(() => other.stop());
  const port = Number(new URL(await other.app.listen({ host: '127.0.0.1', port: 0 })).port);
  const staged = () => readdir(path.join(other.folder, '.staging'), { recursive: true });
  const head = 'POST /datasets HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n';
  const file = await fixture('pairs-snappy.parquet');
  const begun = expect.arrayContaining([expect.stringMatching(/\.begun$/)]);
  // Two are read at once: each gives back its place.
  for (let time = 0; time < 3; time++) {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(Buffer.concat([Buffer.from(`${head}content-length: ${file.length}\r\n\r\n`), file]));
    await expect.poll(staged).toEqual(begun);
    socket.destroy();
    await expect.poll(staged).toEqual([]);
  }
});

describe('datasets', () => {
  test('are listed newest first, page by page', async () => {
    const created: string[] = [];
    for (let i = 0; i < 3; i++) {
      created.push((await upload(promptRows(2, `page ${i}`))).body.id);
      await sleep(5);
    }
    const page = async (query: string) => jsonOf<Paged<Dataset> & ErrorBody>(await fetch(`${url}/datasets?${query}`));
    const first = await page('limit=2');
    expect(Value.Check(DatasetPage, first)).toBe(true);
    expect(first.data.map(({ id }) => id)).toEqual([created[2], created[1]]);
    expect(first).toMatchObject({ has_more: true, next: created[1] });
    expect((await page(`limit=1&after=${first.next}`)).data[0]?.id).toBe(created[0]);
    expect((await page('after=ds_none')).error).toMatchObject({ code: 'invalid_request', param: 'after' });
    expect((await page('limit=1000')).error).toMatchObject({ code: 'invalid_request', param: 'limit' });
    const [one] = (await page('limit=1')).data;
    expect((await page(`sha256=${one?.sha256}`)).data).toEqual([one]);
    expect((await page(`sha256=${'0'.repeat(64)}`)).data).toEqual([]);
    expect((await page('sha256=0')).error).toMatchObject({ code: 'invalid_request', param: 'sha256' });
  });

  test.each(['ds_000000000000000000000000', '..', '..%2f..%2fetc', '%252e%252e', 'x'])(
    '%s is not found',
    async (id) => {
      const answer = await fetch(`${url}/datasets/${id}`);
      expect(answer.status).toBe(404);
    },
  );

  test('are deleted unless an unfinished job uses them', async () => {
    const { id } = (await upload(promptRows(4, 'delete'))).body;
    const queued = await fetch(`${url}/jobs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ base_model: 'tiny-llama', dataset: id }),
    });
    const job = await jsonOf<Job>(queued);
    expect(queued.status).toBe(202);
    const remove = () => fetch(`${url}/datasets/${id}`, { method: 'DELETE' });
    const used = await remove();
    expect([used.status, (await jsonOf(used)).error.code]).toEqual([409, 'in_use']);
    await fetch(`${url}/jobs/${job.id}/cancel`, { method: 'POST' });
    expect((await remove()).status).toBe(204);
    expect((await remove()).status).toBe(404);
    expect((await upload(promptRows(4, 'delete'))).status).toBe(201);
  });
});

describe('rows', () => {
  const rowsOf = async (id: string, query = '') => {
    const answer = await fetch(`${url}/datasets/${id}/rows${query}`);
    return { status: answer.status, body: await jsonOf<DatasetRowPage & ErrorBody>(answer) };
  };

  test('are shown page by page, and as tokens with what a job trains of them', async () => {
    const { id } = (await upload(promptRows(5, 'shown'))).body;
    const first = (await rowsOf(id, '?limit=2')).body;
    expect(Value.Check(DatasetRowPage, first)).toBe(true);
    expect(first).toMatchObject({ dataset: id, base_model: null, has_more: true, next: 2 });
    expect(JSON.parse(first.data[1]!.text)).toEqual({ prompt: 'shown 1', completion: 'answer 1' });
    const last = (await rowsOf(id, `?after=4&base_model=tiny-llama`)).body;
    expect(Value.Check(DatasetRowPage, last)).toBe(true);
    expect(last).toMatchObject({ base_model: 'tiny-llama', has_more: false, next: null, data: [{ line: 5 }] });
    const { tokens } = last.data[0]!;
    expect(tokens!.data.map(({ text }) => text).join('')).toContain('shown 4');
    const trained = tokens!.data.filter((token) => token.trained).map(({ text }) => text);
    expect(trained.join('')).toContain('answer 4');
    expect(trained.join('')).not.toContain('shown');
    const split = (await rowsOf(id, '?base_model=tiny-llama&max_seq_length=4&on_overflow=split&limit=1')).body;
    expect(split.data[0]!.tokens).toMatchObject({ outcome: 'split' });
    const error = (await rowsOf(id, '?base_model=tiny-llama&max_seq_length=4&limit=1')).body.data[0]!;
    expect(error).toMatchObject({ faults: [{ code: 'row_too_long', line: 1 }], tokens: { outcome: 'refused' } });
  });

  test('show what the template of a model leaves out, and that it is not trained', async () => {
    const { models } = JSON.parse(await readFile(CONVERSATIONS, 'utf8'));
    // With the end of a turn that the tokenizer of the model has.
    const template = models.exaone4.template.replaceAll('[|endofturn|]', '<|im_end|>');
    const modelsDir = path.join(api.folder, 'models');
    await cp(path.join(modelsDir, 'tiny-llama'), path.join(modelsDir, 'reasoning'), { recursive: true });
    await writeFile(path.join(modelsDir, 'reasoning', 'chat_template.jinja'), template);
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: '2+2?' },
      { role: 'assistant', content: '<think>\nA sum.\n</think>\n\n4' },
      { role: 'user', content: '3+3?' },
      { role: 'assistant', content: '6' },
    ];
    const { id } = (await upload(`${JSON.stringify({ messages })}\n`)).body;
    const { tokens } = (await rowsOf(id, '?base_model=reasoning')).body.data[0]!;
    let marked = '';
    for (const [index, { text, trained }] of tokens!.data.entries()) {
      const before = tokens!.data[index - 1]?.trained ?? false;
      marked += (trained === before ? '' : trained ? '⟦' : '⟧') + text;
    }
    expect(marked).toBe(
      '[|system|]\nBe brief.<|im_end|>\n[|user|]\n2+2?<|im_end|>\n[|assistant|]\n<think>\n\n</think>\n\n⟦4<|im_end|>\n⟧' +
        '[|user|]\n3+3?<|im_end|>\n[|assistant|]\n<think>\n\n</think>\n\n⟦6<|im_end|>\n',
    );
  });

  test('are refused for an unknown dataset or model, one that has no such tokens, and settings without a model', async () => {
    const { id } = (await upload(promptRows(2, 'refused'))).body;
    const features = (await upload('{"features":[1,2],"label":0}\n')).body;
    const codeOf = async (dataset: string, query: string) => {
      const { status, body } = await rowsOf(dataset, query);
      expect(Value.Check(ErrorBody, body)).toBe(true);
      return [status, body.error.code];
    };
    expect(await codeOf(`ds_${'0'.repeat(24)}`, '')).toEqual([404, 'dataset_not_found']);
    expect(await codeOf(id, '?base_model=none')).toEqual([404, 'model_not_found']);
    expect(await codeOf(features.id, '?base_model=tiny-llama')).toEqual([422, 'dataset_format_mismatch']);
    expect(await codeOf(id, '?max_seq_length=8')).toEqual([400, 'invalid_request']);
    expect((await rowsOf(features.id)).body.data[0]).toMatchObject({ line: 1, tokens: null });
  });

  test('rows of a chat template that never ends are given up, and the next ones are shown', async () => {
    const model = path.join(api.folder, 'models/endless-llama');
    await cp(path.join(api.folder, 'models/tiny-llama'), model, { recursive: true });
    const { id } = (await upload(promptRows(2, 'endless'))).body;
    await writeFile(path.join(model, 'chat_template.jinja'), '{% for a in range(1000000000) %}{{ a }}{% endfor %}');
    const { status, body } = await rowsOf(id, '?base_model=endless-llama');
    expect([status, body.data[0]]).toMatchObject([200, { tokens: null, faults: [{ code: 'chat_template_failed' }] }]);
    expect((await rowsOf(id, '?base_model=tiny-llama')).body.data[0]!.tokens).not.toBeNull();
  });
});
