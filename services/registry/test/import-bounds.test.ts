import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { localModels } from '@lorasmith/base-models';
import { type AdapterManifest, ProductError } from '@lorasmith/contracts';
import { freeBytesHeaders } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { describe, expect, test, vi } from 'vitest';
import { AdapterLibrary } from '../src/adapters/adapter-library.js';
import { AdapterImport } from '../src/importing/adapter-import.js';
import {
  adapters,
  config,
  listen,
  nothingIsLeft,
  peftFiles,
  post,
  root,
  url,
  useImportingRegistry,
} from './importing-registry.js';
import { faultyProgram, importProgram } from './merge-program.js';
import { tarOf } from './tar-bytes.js';
import { storedBytesOf, unevenAdapter } from './uneven-adapter.js';

// The size limits of an import, and imports whose client disconnects.

useImportingRegistry();

const QUERY = '?base_model=llama-tied';
const RANK = 128;
const uneven = () => unevenAdapter(JSON.parse(config), RANK);

describe('an adapter that is larger once it is stored', () => {
  test('is accepted within the limit and the free bytes, and has the computed size', async () => {
    const free = storedBytesOf(RANK) + 20_000;
    const { status, body } = await post(uneven(), QUERY, freeBytesHeaders({ own: free, total: free }));
    expect(status).toBe(201);
    const { files } = (await (await fetch(`${url}/adapters/${body.id}/manifest`)).json()) as AdapterManifest;
    const stored = files.find(({ name }) => name.endsWith('.safetensors'))!.bytes;
    expect(stored).toBeGreaterThan(storedBytesOf(RANK));
    expect(stored).toBeLessThan(free);
  });

  test('is refused beyond the limit', async () => {
    await listen({ maxStoredBytes: storedBytesOf(RANK) - 1 });
    const { status, body } = await post(uneven());
    expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    expect(body.error.message).toContain(`needs ${storedBytesOf(RANK)} bytes; the limit is ${storedBytesOf(RANK) - 1}`);
    expect(body.error.message).toContain('Use more similar ranks');
    await nothingIsLeft();
  });

  test('is refused beyond the free bytes of its key, and of all keys', async () => {
    const [enough, less] = [2 ** 40, storedBytesOf(RANK) - 1];
    const ofKey = await post(uneven(), QUERY, freeBytesHeaders({ own: less, total: enough }));
    expect([ofKey.status, ofKey.body.error.code]).toEqual([429, 'quota_exceeded']);
    const ofAll = await post(uneven(), QUERY, freeBytesHeaders({ own: enough, total: less }));
    expect([ofAll.status, ofAll.body.error.code]).toEqual([507, 'storage_full']);
    // The tensors fit, but not the other files.
    const almost = await post(uneven(), QUERY, freeBytesHeaders({ own: less + 1, total: enough }));
    expect([almost.status, almost.body.error.code]).toEqual([429, 'quota_exceeded']);
    await nothingIsLeft();
  });

  test('free bytes that are not numbers are refused', async () => {
    for (const own of ['', 'x', '-1', '1.5', '1e400']) {
      const headers = { ...freeBytesHeaders({ own: 0, total: 2 ** 40 }), 'x-lorasmith-own-free-bytes': own };
      expect([own, (await post(uneven(), QUERY, headers)).body.error.code]).toEqual([own, 'invalid_request']);
    }
  });
});

describe('an import whose client disconnects', () => {
  const stagings = () => readdir(join(root, 'data/.staging'));

  test('ends at once, while it is checked and while it waits', async () => {
    await listen({ program: faultyProgram('hang') });
    const callers = Array.from({ length: 6 }, () => new AbortController());
    const calls = callers.map(async ({ signal }) => {
      const headers = { 'content-type': 'application/x-tar' };
      await fetch(`${url}/adapters${QUERY}`, {
        method: 'POST',
        headers,
        body: tarOf(peftFiles()) as Uint8Array<ArrayBuffer>,
        signal,
      });
    });
    const ended = Promise.allSettled(calls);
    // Two folders each: as received, and as it will be stored.
    await expect.poll(async () => (await stagings()).length).toBe(12);
    // The waiting ones disconnect first, so that no check starts for them.
    for (const caller of callers.toReversed()) {
      caller.abort();
      await sleep(50);
    }
    await ended;
    await expect.poll(stagings).toEqual([]);
    await nothingIsLeft();
  });

  const left = new ProductError('invalid_request', 'left');
  const importWith = async (store: Partial<BundleStore>, signal: AbortSignal) => {
    const imports = new AdapterImport({
      adapters: { stage: () => adapters.stage(), delete: (id: string) => adapters.delete(id), ...store } as BundleStore,
      library: new AdapterLibrary({ store: adapters, onBroken: () => {} }),
      baseModels: localModels(join(root, 'models')),
      weightDigests: join(root, 'data/weight-digests'),
      program: importProgram(),
      timeoutMs: 60_000,
      maxStoredBytes: 2 ** 30,
    });
    const freeBytes = { own: 2 ** 30, total: 2 ** 30 };
    async function* chunks() {
      yield tarOf(peftFiles());
    }
    return await imports.import(chunks(), { baseModel: 'llama-tied', name: null, owner: null, freeBytes, signal });
  };

  test('publishes nothing after that', async () => {
    const caller = new AbortController();
    const publish = vi.fn();
    const stage = async () => {
      const staging = await adapters.stage();
      const write: typeof staging.write = async (name, source) => {
        const digest = await staging.write(name, source);
        if (name === 'manifest.json') caller.abort(left);
        return digest;
      };
      return { ...staging, write };
    };
    await expect(importWith({ stage, publish }, caller.signal)).rejects.toBe(left);
    expect(publish).not.toHaveBeenCalled();
    await nothingIsLeft();
  });

  test('is deleted again if it was being published at that moment', async () => {
    const caller = new AbortController();
    const publish: BundleStore['publish'] = async (staging, id, listing) => {
      const published = await adapters.publish(staging, id, listing);
      expect(await adapters.list()).toEqual([id]);
      caller.abort(left);
      return published;
    };
    await expect(importWith({ publish }, caller.signal)).rejects.toBe(left);
    await nothingIsLeft();
  });
});
