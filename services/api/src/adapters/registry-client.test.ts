import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Adapter, AdapterId } from '@lorasmith/contracts';
import { EVERYTHING } from '@lorasmith/service-kit';
import { expect, test } from 'vitest';
import { createRegistryClient } from './registry-client.js';

const adapterOf = (number: number): Adapter => ({
  id: `ad_${String(number).padStart(24, '0')}` as AdapterId,
  object: 'adapter',
  origin: { kind: 'imported' },
  owner: null,
  name: null,
  tags: [],
  note: null,
  base_model: 'tiny-llama',
  bytes: 1,
  created_at: '2026-01-01T00:00:00.000Z',
});

test('the newest adapters are listed where those at the end of a page are deleted meanwhile', async () => {
  let stored = Array.from({ length: 250 }, (_, number) => adapterOf(number));
  let pages = 0;
  const server = createServer((request, response) => {
    expect(request.headers['x-lorasmith-secret']).toBe('the secret');
    const query = new URL(request.url!, 'http://registry').searchParams;
    const after = query.get('after');
    const from = stored.findIndex(({ id }) => id === after) + 1;
    if (after !== null && from === 0) {
      const error = { code: 'invalid_request', message: 'There is no such adapter.', request_id: 'r', details: [] };
      response.writeHead(400).end(JSON.stringify({ error: { ...error, param: 'after' } }));
      return;
    }
    const data = stored.slice(from, from + Number(query.get('limit')));
    const has_more = from + data.length < stored.length;
    response.end(JSON.stringify({ data, has_more, next: has_more ? data.at(-1)!.id : null, total: stored.length }));
    pages++;
    // The last two of the first page.
    if (pages === 1) stored = stored.filter(({ id }) => id !== data.at(-1)!.id && id !== data.at(-2)!.id);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const registry = createRegistryClient({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    secret: async () => 'the secret',
  });
  const listed = await registry.newestAdapters(EVERYTHING, 240);
  expect(listed).toEqual(stored.slice(0, 240));
  expect((await registry.newestAdapters(EVERYTHING, 1_000)).length).toBe(248);
  server.closeAllConnections();
  server.close();
});
