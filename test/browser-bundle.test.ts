import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';

import { type OutputChunk, rolldown } from 'rolldown';
import { expect, test } from 'vitest';
import { json, serve } from '../packages/client/test/http-server.js';
import type { JobEvent } from '../packages/contracts/src/index.js';

const ROOT = join(import.meta.dirname, '..');

/** Globals of a browser that this code may use. Node's other globals are missing in the context. */
const WEB_GLOBALS = [
  'AbortController',
  'AbortSignal',
  'Blob',
  'Headers',
  'ReadableStream',
  'Response',
  'TextDecoder',
  'TextEncoder',
  'URL',
  'clearTimeout',
  'crypto',
  'fetch',
  'performance',
  'setTimeout',
] as const;

/** Bundles an entry of a package for browsers. @returns its external imports, and its code as one script */
async function bundleFor(input: string): Promise<{ imports: string[]; code: string }> {
  const bundle = await rolldown({
    input: join(ROOT, input),
    platform: 'browser',
    resolve: { conditionNames: ['source', 'browser', 'import', 'default'] },
    logLevel: 'silent',
    external: /^node:/,
  });
  try {
    const { output } = await bundle.generate({ format: 'iife', name: 'bundled' });
    const chunks = output.filter((one): one is OutputChunk => one.type === 'chunk');
    return { imports: chunks.flatMap(({ imports }) => imports), code: chunks.map(({ code }) => code).join('\n') };
  } finally {
    await bundle.close();
  }
}

function runInBrowserLikeContext(code: string): Record<string, unknown> {
  const globals = Object.fromEntries(WEB_GLOBALS.map((name) => [name, globalThis[name]]));
  return runInContext(`${code}\nbundled`, createContext(globals)) as Record<string, unknown>;
}

test('contracts load in a browser', async () => {
  const { imports, code } = await bundleFor('packages/contracts/src/index.ts');
  expect(imports).toEqual([]);
  const contracts = runInBrowserLikeContext(code);
  expect(contracts.JobRequest).toMatchObject({ type: 'object' });
});

test('the core of the client loads and works in a browser', async () => {
  const { imports, code } = await bundleFor('packages/client/src/core.ts');
  expect(imports).toEqual([]);
  const core = runInBrowserLikeContext(code) as unknown as typeof import('../packages/client/src/core.js');

  const event = { id: '1-0', job: 'job_1', created_at: '', type: 'job-cancelled', data: {} };
  const server = await serve(
    json(201, { id: 'ds_1' }),
    json(201, { id: 'ds_2' }),
    json(202, { id: 'job_1' }),
    (response) => {
      response
        .writeHead(200, { 'content-type': 'text/event-stream' })
        .end(`id: 1-0\ndata: ${JSON.stringify(event)}\n\n`);
    },
    json(200, { id: 'job_1', status: 'cancelled' }),
  );
  const client = core.createClient({ baseUrl: server.baseUrl, apiKey: 'lora_key' });
  await client.uploadDataset({ blob: new Blob(['{"text":"grün"}\n']) }, { name: 'rows' });
  await client.uploadDataset({ text: '{"text":"b"}\n' });
  await client.createJob({ base_model: 'tiny', dataset: 'ds_1' });
  const events: JobEvent[] = [];
  const job = await client.waitForJob('job_1', { onEvent: (one) => void events.push(one) });
  expect(job.status).toBe('cancelled');
  expect(events.map(({ type }) => type)).toEqual(['job-cancelled']);
  expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'POST /datasets?name=rows',
    'POST /datasets',
    'POST /jobs',
    'GET /jobs/job_1/events',
    'GET /jobs/job_1',
  ]);
  expect(server.requests[0]).toMatchObject({
    body: '{"text":"grün"}\n',
    headers: { authorization: 'Bearer lora_key' },
  });
});

test('the check detects a module that needs Node', async () => {
  const { imports } = await bundleFor('packages/client/src/index.ts');
  expect(imports).toContain('node:fs/promises');
});
