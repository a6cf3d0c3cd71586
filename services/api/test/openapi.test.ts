import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openapiDocument } from '../src/openapi/openapi-document.js';

interface Operation {
  operationId?: string;
  parameters?: { schema: object }[];
  requestBody?: { content: Record<string, { schema: object }> };
  responses: Record<string, { $ref?: string; content?: Record<string, { schema: unknown }> }>;
}

let folder: string;
let text: string;
let document: {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown>; responses: Operation['responses'] };
};

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-openapi-'));
  text = await openapiDocument(folder);
  document = JSON.parse(text);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('the committed document is that of the routes; "npm run openapi" writes it', async () => {
  const committed = await readFile(new URL('../../../openapi/openapi.json', import.meta.url), 'utf8');
  expect(JSON.parse(committed)).toEqual(document);
});

test('the document is valid OpenAPI 3.1 to an independent validator', async () => {
  const validator = new Validator();
  const result = await validator.validate(JSON.parse(text));
  expect(result.errors ?? []).toEqual([]);
  expect(result.valid).toBe(true);
  expect(validator.version).toBe('3.1');
});

test('every schema is valid JSON Schema and can be compiled, which the api does at the first request alone', () => {
  const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, validateFormats: false });
  ajv.addVocabulary(['components']);
  const { components } = document;
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
  const inputs = operations.flatMap(({ parameters = [], requestBody }) =>
    [...parameters, ...Object.values(requestBody?.content ?? {})].map(({ schema }) => schema),
  );
  expect(inputs.length).toBeGreaterThan(100);
  for (const schema of inputs) expect(() => ajv.compile({ ...schema, components })).not.toThrow();
  for (const [name, schema] of Object.entries(components.schemas)) {
    expect([name, ajv.validateSchema(schema as object)]).toEqual([name, true]);
  }
});

test('the document has every call with a unique id and its errors', () => {
  const operations = Object.entries(document.paths).flatMap(([url, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ call: `${method.toUpperCase()} ${url}`, operation })),
  );
  expect(operations.map(({ call }) => call).sort()).toEqual([
    'DELETE /adapters/{id}',
    'DELETE /aliases/{name}',
    'DELETE /comparisons/{id}',
    'DELETE /datasets/{id}',
    'DELETE /hub-token',
    'DELETE /jobs/{id}',
    'DELETE /sweeps/{id}',
    'DELETE /v1/files/{id}',
    'DELETE /v1/models/{model}',
    'GET /adapters',
    'GET /adapters/{id}',
    'GET /adapters/{id}/deliveries',
    'GET /adapters/{id}/files',
    'GET /adapters/{id}/files/{name}',
    'GET /adapters/{id}/manifest',
    'GET /adapters/{id}/record',
    'GET /aliases',
    'GET /aliases/{name}',
    'GET /aliases/{name}/deliveries',
    'GET /comparisons',
    'GET /comparisons/{id}',
    'GET /comparisons/{id}/events',
    'GET /comparisons/{id}/rows',
    'GET /datasets',
    'GET /datasets/{id}',
    'GET /datasets/{id}/rows',
    'GET /datasets/{id}/tokens',
    'GET /deliveries/{id}',
    'GET /deliveries/{id}/events',
    'GET /hub-token',
    'GET /jobs',
    'GET /jobs/{id}',
    'GET /jobs/{id}/checkpoints',
    'GET /jobs/{id}/events',
    'GET /key',
    'GET /live',
    'GET /machines',
    'GET /metrics',
    'GET /model-pulls',
    'GET /model-pulls/{id}',
    'GET /models',
    'GET /models/{name}',
    'GET /ready',
    'GET /sweeps',
    'GET /sweeps/{id}',
    'GET /sweeps/{id}/events',
    'GET /v1/files',
    'GET /v1/files/{id}',
    'GET /v1/files/{id}/content',
    'GET /v1/fine_tuning/jobs',
    'GET /v1/fine_tuning/jobs/{id}',
    'GET /v1/fine_tuning/jobs/{id}/checkpoints',
    'GET /v1/fine_tuning/jobs/{id}/events',
    'GET /v1/models',
    'GET /v1/models/{model}',
    'GET /webhook-secret',
    'PATCH /adapters/{id}',
    'PATCH /datasets/{id}',
    'PATCH /jobs/{id}',
    'POST /adapters',
    'POST /adapters/{id}/deliveries',
    'POST /aliases/{name}/rollback',
    'POST /comparisons',
    'POST /comparisons/{id}/cancel',
    'POST /datasets',
    'POST /deliveries/{id}/cancel',
    'POST /imports/openai',
    'POST /jobs',
    'POST /jobs/{id}/cancel',
    'POST /jobs/{id}/checkpoints/{step}/publish',
    'POST /jobs/{id}/pause',
    'POST /jobs/{id}/resume',
    'POST /model-pulls',
    'POST /model-pulls/{id}/cancel',
    'POST /sweeps',
    'POST /sweeps/{id}/cancel',
    'POST /sweeps/{id}/pause',
    'POST /sweeps/{id}/resume',
    'POST /v1/chat/completions',
    'POST /v1/completions',
    'POST /v1/files',
    'POST /v1/fine_tuning/jobs',
    'POST /v1/fine_tuning/jobs/{id}/cancel',
    'POST /v1/fine_tuning/jobs/{id}/pause',
    'POST /v1/fine_tuning/jobs/{id}/resume',
    'PUT /aliases/{name}',
    'PUT /aliases/{name}/deliveries',
    'PUT /hub-token',
  ]);
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids).not.toContain(undefined);
  for (const { call, operation } of operations) {
    const body = call.includes(' /v1/') ? 'OpenaiErrorBody' : 'ErrorBody';
    for (const [status, response] of Object.entries(operation.responses)) {
      if (Number(status) < 400) continue;
      const shared = response.$ref?.replace('#/components/responses/', '');
      const { content } = shared === undefined ? response : document.components.responses[shared]!;
      expect(content?.['application/json']?.schema).toEqual({ $ref: `#/components/schemas/${body}` });
    }
  }
});

test('every call that stores something documents that storage can be full', () => {
  const storing = ['/datasets', '/adapters', '/jobs', '/jobs/{id}/resume', '/jobs/{id}/checkpoints/{step}/publish'];
  expect(storing.filter((url) => document.paths[url]?.post?.responses['507'] === undefined)).toEqual([]);
});

test('every reference has a schema, and every schema is referenced', () => {
  const referred = new Set([...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name));
  expect([...referred].sort()).toEqual(Object.keys(document.components.schemas).sort());
  expect(text).not.toContain('x-named-schema');
});
