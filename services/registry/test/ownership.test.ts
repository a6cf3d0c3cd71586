import type { Adapter, AdapterManifest, KeyId } from '@lorasmith/contracts';
import { type Caller, callerHeaders } from '@lorasmith/service-kit';
import { expect, test } from 'vitest';
import { adapters, peftFiles, post, url, useImportingRegistry } from './importing-registry.js';
import { adapterId, publishReferenceAdapter } from './published-adapter.js';
import { tarOf } from './tar-bytes.js';

const ONE: KeyId = 'key_000000000000000000000001';
const OTHER: KeyId = 'key_000000000000000000000002';
const one: Caller = { sees: 'own', owner: ONE };
const other: Caller = { sees: 'own', owner: OTHER };
const admin: Caller = { sees: 'all', owner: OTHER };

useImportingRegistry();

const call = (path: string, caller: Caller | undefined, method = 'GET') =>
  fetch(`${url}${path}`, { method, headers: caller === undefined ? {} : callerHeaders(caller) });
const listed = async (caller?: Caller, query = '') =>
  ((await (await call(`/adapters${query}`, caller)).json()) as { data: Adapter[] }).data.map(({ id }) => id);
const publish = (number: number, owner: KeyId | null) =>
  publishReferenceAdapter(adapters, {
    id: adapterId(number),
    name: 'llama-tied',
    createdAt: `2026-05-0${number}T00:00:00.000Z`,
    change(manifest) {
      manifest.owner = owner;
    },
  });

test('an adapter exists only for its owner and for callers that see everything', async () => {
  await publish(1, ONE);
  await publish(2, OTHER);
  await publish(3, null);
  await publish(4, null);
  expect(await listed(one)).toEqual([adapterId(1)]);
  expect(await listed(other)).toEqual([adapterId(2)]);
  for (const caller of [admin, undefined]) expect(await listed(caller)).toEqual([4, 3, 2, 1].map(adapterId));
  const paths = ['', '?format=safetensors', '?weights=merged', '/manifest', '/files', '/files/adapter_config.json'];
  for (const path of paths) {
    for (const number of [2, 3, 4]) {
      const theirs = await call(`/adapters/${adapterId(number)}${path}`, one);
      const nothing = await call(`/adapters/${adapterId(9)}${path}`, one);
      const plain = async (answer: Response) =>
        (await answer.text()).replaceAll(/ad_0{23}\d/g, 'ad').replaceAll(/"request_id":"[^"]*"/g, '');
      expect([theirs.status, await plain(theirs)]).toEqual([404, await plain(nothing)]);
    }
  }
  expect((await call(`/adapters/${adapterId(1)}`, one)).status).toBe(200);
  expect((await call(`/adapters/${adapterId(1)}`, admin)).status).toBe(200);
  for (const number of [2, 3, 9]) {
    expect((await call(`/adapters/${adapterId(number)}`, one, 'DELETE')).status).toBe(404);
  }
  expect(await adapters.list()).toHaveLength(4);
  // The id of another owner's adapter is refused as `after`.
  const [theirs, nothing] = await Promise.all(
    [2, 9].map(async (number) => (await call(`/adapters?after=${adapterId(number)}`, one)).status),
  );
  expect([theirs, nothing]).toEqual([400, 400]);
  expect((await call(`/adapters/${adapterId(1)}`, one, 'DELETE')).status).toBe(204);
});

test('an imported adapter belongs to the caller that imported it', async () => {
  const { body } = await post(tarOf(peftFiles()), undefined, callerHeaders(one));
  expect(body).toMatchObject({ origin: { kind: 'imported' }, owner: ONE });
  const manifest = (await (await call(`/adapters/${body.id}/manifest`, one)).json()) as AdapterManifest;
  expect(manifest.owner).toBe(ONE);
  expect(await listed(other)).toEqual([]);
});

test('the usage is reported for the owner and in total', async () => {
  await publish(1, ONE);
  await publish(2, OTHER);
  await publish(3, null);
  const usage = async (caller?: Caller) => (await call('/usage', caller)).json();
  const { own_bytes: bytes } = (await usage(one)) as { own_bytes: number };
  expect(bytes).toBeGreaterThan(1_000);
  expect(await usage(one)).toEqual({ own_adapters: 1, own_bytes: bytes, total_adapters: 3, total_bytes: 3 * bytes });
  expect(await usage({ sees: 'all', owner: 'key_000000000000000000000003' })).toEqual({
    own_adapters: 0,
    own_bytes: 0,
    total_adapters: 3,
    total_bytes: 3 * bytes,
  });
});

test('headers with values that the api never sends are refused', async () => {
  for (const headers of [{ 'x-lorasmith-owner': ONE }, { 'x-lorasmith-sees': 'all' }] as Record<string, string>[]) {
    expect((await fetch(`${url}/adapters`, { headers })).status).toBe(400);
    expect((await fetch(`${url}/usage`, { headers })).status).toBe(400);
  }
});
