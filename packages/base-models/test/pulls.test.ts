import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ModelPull } from '@lorasmith/contracts';
import { describeModel } from '@lorasmith/model-folder';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { writeFamilyModel } from '../../../test/family-models.mjs';
import { filesOf, type HubServer, hubRepo, startHubServer } from '../../../test/hub-server.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import {
  createPullStore,
  modelsFolderDestination,
  type Puller,
  type PullerOptions,
  type PullStore,
  startPuller,
} from '../src/index.js';

const REPO = 'org/tiny-llama';
const TOKEN = 'hf_aSecretToken';
const logger = pino({ level: 'silent' });

let server: RealRedis;
let redis: Redis;
let tiny: Record<string, Buffer>;
let hub: HubServer;
let modelsDir: string;
let pulls: PullStore;
let pullers: Puller[];
let prefixes = 0;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-tiny-'));
  await writeTinyLlama(folder);
  tiny = await filesOf(folder);
  await rm(folder, { recursive: true });
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});
beforeEach(async () => {
  hub = await startHubServer();
  modelsDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-pulls-'));
  pulls = createPullStore({ redis, prefix: `${server.prefix}${prefixes++}:` });
  pullers = [];
});
afterEach(async () => {
  hub.release();
  for (const puller of pullers) await puller.close();
  await hub.stop();
  await rm(modelsDir, { recursive: true });
});

async function start(changes: Partial<PullerOptions> & { hubChanges?: Partial<PullerOptions['hub']> } = {}) {
  const { hubChanges, ...rest } = changes;
  const puller = startPuller({
    pulls,
    log: logger,
    destination: modelsFolderDestination(modelsDir),
    hub: { endpoint: hub.url, token: null, offline: false, retryMs: 1, ...hubChanges },
    limits: { maxBytes: 10_000_000, keepFreeBytes: 0 },
    intervalMs: 20,
    ...rest,
  });
  pullers.push(puller);
  await vi.waitUntil(() => puller.hindrance() === null, 60_000);
  return puller;
}

const ended = (id: string): Promise<ModelPull> =>
  vi.waitUntil(
    async () => {
      const pull = await pulls.get(id);
      return pull.ended_at === null ? null : pull;
    },
    { timeout: 60_000, interval: 10 },
  ) as Promise<ModelPull>;

async function pulled(request: Parameters<PullStore['create']>[0] = { repo: REPO }): Promise<ModelPull> {
  return await ended((await pulls.create(request)).pull.id);
}

const rangesOfStore = () => hub.requests.filter(({ server: of }) => of === 'store').map(({ range }) => range);

describe('a pull', () => {
  test('fetches the files that are needed, checks them, and publishes a model that can be used', async () => {
    const others = {
      'pytorch_model.bin': 'a pickle',
      'modeling_tiny.py': 'import os',
      'training_args.bin': 'a pickle',
      'consolidated.safetensors': 'the same weights again',
      'README.md': '---\nlicense: mit\n---\n',
      LICENSE: 'MIT',
      'NOTICE.md': 'x'.repeat(2 ** 20 + 1),
    };
    hub.repos.set(REPO, hubRepo({ ...tiny, ...others }));
    await start();
    const pull = await pulled();
    expect(pull).toMatchObject({ status: 'succeeded', name: 'tiny-llama', commit: 'a'.repeat(40), error: null });
    expect(pull.received_bytes).toBe(pull.total_bytes);
    const names = [...Object.keys(tiny), 'LICENSE', 'README.md'].sort();
    expect(pull.files.map(({ name }) => name).sort()).toEqual(names);
    expect((await readdir(path.join(modelsDir, 'tiny-llama'))).sort()).toEqual(
      [...names, 'lorasmith-origin.json'].sort(),
    );
    for (const [name, bytes] of Object.entries(tiny)) {
      expect((await readFile(path.join(modelsDir, 'tiny-llama', name))).equals(bytes)).toBe(true);
    }
    expect(await describeModel(modelsDir, 'tiny-llama')).toMatchObject({
      problem: null,
      origin: { repo: REPO, revision: 'main', commit: 'a'.repeat(40) },
    });
    expect(await readdir(path.join(modelsDir, '.pulls'))).toEqual([]);
    const asked = hub.requests.map(({ path: one }) => one).filter((one) => one.includes('/resolve/'));
    expect(asked.filter((one) => /\.(bin|py)$|consolidated|NOTICE/.test(one))).toEqual([]);
  });

  test('fetches what a composite needs to be served, in its language model and its encoder', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-composite-'));
    await writeFamilyModel('gemma3', path.join(folder, 'gemma3'));
    const model = await filesOf(path.join(folder, 'gemma3'));
    await rm(folder, { recursive: true });
    const companions = {
      'preprocessor_config.json': '{"image_processor_type": "Gemma3ImageProcessor"}',
      'processor_config.json': '{"processor_class": "Gemma3Processor"}',
      'chat_template.jinja': '{{ messages[0].content }}',
      'chat_template.json': '{"chat_template": "{{ messages[0].content }}"}',
    };
    hub.repos.set(REPO, hubRepo({ ...model, ...companions, 'added_tokens.bin': 'a pickle' }));
    await start();
    const { status, name, error } = await pulled();
    expect([status, error]).toEqual(['succeeded', null]);
    const pulledTo = path.join(modelsDir, name);
    expect((await readdir(pulledTo)).sort()).toEqual(
      [...Object.keys(model), ...Object.keys(companions), 'lorasmith-origin.json'].sort(),
    );
    for (const [file, text] of Object.entries(companions)) {
      expect(await readFile(path.join(pulledTo, file), 'utf8')).toBe(text);
    }
  });

  test.each([true, false])('takes shards that the index names, with Xet: %s', async (xet) => {
    const { 'model.safetensors': weights, ...rest } = tiny;
    const shards = splitSafetensors(weights!);
    hub.repos.set(REPO, hubRepo({ ...rest, ...shards, 'model-extra.safetensors': 'not in the index' }, { xet }));
    await start();
    const pull = await pulled({ repo: REPO, name: 'sharded' });
    expect(pull).toMatchObject({ status: 'succeeded', name: 'sharded' });
    expect(pull.files.map(({ name }) => name)).not.toContain('model-extra.safetensors');
    expect((await describeModel(modelsDir, 'sharded')).problem).toBeNull();
  });

  test('continues a connection that breaks off, from the byte where it broke', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.cuts = { times: 2, afterBytes: 1_000 };
    await start();
    expect(await pulled()).toMatchObject({ status: 'succeeded' });
    expect(rangesOfStore()).toEqual([null, 'bytes=1000-', 'bytes=2000-']);
    const files = hub.requests.filter(({ path: one }) => !one.startsWith('/api/'));
    expect(new Set(files.map(({ acceptEncoding }) => acceptEncoding))).toEqual(new Set(['identity']));
  });

  test('starts a file again where the hub sends no parts', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.cuts = { times: 1, afterBytes: 1_000 };
    hub.faults.ignoreRanges = true;
    await start();
    expect(await pulled()).toMatchObject({ status: 'succeeded' });
    expect((await describeModel(modelsDir, 'tiny-llama')).problem).toBeNull();
  });

  test('is resumed by the next puller, at the same commit, when its puller ends', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.holdAfterBytes = 5_000;
    const first = await start();
    const { pull } = await pulls.create({ repo: REPO });
    const weights = tiny['model.safetensors']!.length;
    await vi.waitUntil(async () => {
      const { files } = await pulls.get(pull.id);
      return files.some(({ bytes, received_bytes }) => bytes === weights && received_bytes === 5_000);
    }, 60_000);
    await first.close();
    expect(await pulls.get(pull.id)).toMatchObject({ status: 'pulling', ended_at: null });
    expect((await stat(path.join(modelsDir, '.pulls/tiny-llama/.parts/model.safetensors'))).size).toBe(5_000);
    // The branch has moved on meanwhile.
    hub.repos.get(REPO)!.revisions = [];
    hub.faults.holdAfterBytes = null;
    await start();
    expect(await ended(pull.id)).toMatchObject({ status: 'succeeded', commit: 'a'.repeat(40) });
    expect(rangesOfStore()).toEqual([null, 'bytes=5000-']);
  });

  test('a pull that failed is resumed by the same request', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.cuts = { times: 1, afterBytes: 3_000 };
    const { 'generation_config.json': _, ...without } = tiny;
    await start({ limits: { maxBytes: 10_000_000, keepFreeBytes: 2 ** 52 } });
    const failed = await pulled();
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'storage_full' } });
    expect(failed.error!.message).toContain('MODEL_PULL_KEEP_FREE_BYTES');
    await pullers.pop()!.close();
    await start();
    expect(await pulled()).toMatchObject({ status: 'succeeded' });
    expect(Object.keys(without).length).toBeGreaterThan(2);
  });

  test('a pull of a file with another digest is not used, after a second try', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.corrupt.times = 2;
    await start();
    const pull = await pulled();
    expect(pull).toMatchObject({ status: 'failed', error: { code: 'hub_file_corrupt' } });
    expect(pull.error!.message).toMatch(/^org\/tiny-llama: model\.safetensors came twice .* It is not used\./);
    expect(await readdir(modelsDir)).toEqual(['.pulls']);
    expect(await readdir(path.join(modelsDir, '.pulls/tiny-llama/.parts'))).toEqual([]);
    hub.faults.corrupt.times = 1;
    expect(await pulled()).toMatchObject({ status: 'succeeded' });
  });

  test('rejects a small file with a wrong git digest, or with more bytes than the list says', async () => {
    const repo = hubRepo(tiny);
    repo.files.get('config.json')!.digest = '0'.repeat(40);
    hub.repos.set(REPO, repo);
    await start();
    expect((await pulled()).error).toMatchObject({ code: 'hub_file_corrupt' });
  });

  test('is one with a second pull of the same model, and refuses another under its name', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.holdAfterBytes = 100;
    await start();
    await start();
    const first = await pulls.create({ repo: REPO });
    const second = await pulls.create({ repo: REPO });
    expect([first.created, second.created, second.pull.id]).toEqual([true, false, first.pull.id]);
    await expect(pulls.create({ repo: 'org/other', name: 'tiny-llama' })).rejects.toMatchObject({ code: 'conflict' });
    await vi.waitUntil(() => rangesOfStore().length === 1, 60_000);
    hub.release();
    hub.faults.holdAfterBytes = null;
    expect(await ended(first.pull.id)).toMatchObject({ status: 'succeeded' });
    expect(rangesOfStore()).toHaveLength(1);
  });

  test('can be cancelled, and leaves nothing', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.holdAfterBytes = 100;
    await start();
    const { pull } = await pulls.create({ repo: REPO });
    await vi.waitUntil(() => rangesOfStore().length === 1, 60_000);
    await pulls.cancel(pull.id);
    expect(await ended(pull.id)).toMatchObject({ status: 'cancelled', error: null });
    expect(await readdir(path.join(modelsDir, '.pulls'))).toEqual([]);
    expect((await pulls.cancel(pull.id)).status).toBe('cancelled');
  });

  test('a pull that is cancelled before a puller has it never starts', async () => {
    const first = await start();
    await first.close();
    const { pull } = await pulls.create({ repo: REPO });
    expect(await pulls.cancel(pull.id)).toMatchObject({ status: 'cancelled' });
    await start();
    expect(hub.requests).toEqual([]);
  });

  test('does not replace a model that exists', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    await mkdir(path.join(modelsDir, 'tiny-llama'));
    await writeFile(path.join(modelsDir, 'tiny-llama', 'config.json'), '{}');
    await start();
    expect((await pulled()).error).toMatchObject({ code: 'conflict' });
    expect(await readdir(path.join(modelsDir, 'tiny-llama'))).toEqual(['config.json']);
  });

  test('a pull whose puller died after publishing has succeeded', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    const puller = await start();
    const done = await pulled();
    await puller.close();
    // The record as it was before the last write.
    const { pull } = await pulls.create({ repo: REPO });
    await pulls.claim(pull.id, 'dead');
    await pulls.write({ ...done, status: 'pulling', ended_at: null }, 'dead');
    await pulls.release(pull.id, 'dead');
    await start();
    expect(await ended(pull.id)).toMatchObject({ status: 'succeeded', commit: done.commit });
  });
});

describe('the token', () => {
  test('goes to the hub alone, and into no record', async () => {
    hub.repos.set(REPO, hubRepo(tiny, { token: TOKEN, gated: true }));
    await start({ hubChanges: { token: TOKEN } });
    const pull = await pulled();
    expect(pull).toMatchObject({ status: 'succeeded' });
    const authorizations = (of: string) =>
      new Set(hub.requests.filter((one) => one.server === of).map(({ authorization }) => authorization));
    expect(authorizations('hub')).toEqual(new Set([`Bearer ${TOKEN}`]));
    expect(authorizations('store')).toEqual(new Set([null]));
    expect(JSON.stringify(await pulls.list())).not.toContain(TOKEN);
  });
});

describe('what went wrong is said, with what to do', () => {
  const cases: [
    string,
    () => void,
    Partial<PullerOptions['hub']>,
    Parameters<PullStore['create']>[0],
    string,
    RegExp,
  ][] = [
    [
      'a gated model without a token',
      () => hub.repos.set(REPO, hubRepo(tiny, { token: TOKEN, gated: true })),
      {},
      { repo: REPO },
      'hub_access_denied',
      /org\/tiny-llama is gated: accept its terms at .*\/org\/tiny-llama, then set HF_TOKEN/,
    ],
    [
      'a gated model with a token that may not read it',
      () => hub.repos.set(REPO, hubRepo(tiny, { token: TOKEN, gated: true })),
      { token: 'hf_another' },
      { repo: REPO },
      'hub_access_denied',
      /^The token in HF_TOKEN may not read org\/tiny-llama/,
    ],
    ['no such model', () => {}, { token: TOKEN }, { repo: 'org/none' }, 'hub_model_not_found', /no model org\/none/],
    [
      'no such model, without a token',
      () => {},
      {},
      { repo: 'org/none' },
      'hub_access_denied',
      /does not exist, or is/,
    ],
    [
      'no such revision',
      () => hub.repos.set(REPO, hubRepo(tiny)),
      {},
      { repo: REPO, revision: 'v9' },
      'hub_model_not_found',
      /no revision "v9"/,
    ],
    ['offline', () => {}, { offline: true }, { repo: REPO }, 'hub_offline', /HF_HUB_OFFLINE/],
    [
      'only pickles',
      () => hub.repos.set(REPO, hubRepo({ ...omit(tiny, 'model.safetensors'), 'pytorch_model.bin': 'x' })),
      {},
      { repo: REPO },
      'model_not_supported',
      /never fetched: choose a model with safetensors/,
    ],
    [
      'only GGUF',
      () => hub.repos.set(REPO, hubRepo({ 'README.md': 'x', 'm.Q4_1.gguf': 'x' })),
      {},
      { repo: REPO },
      'model_not_supported',
      /only as GGUF.*Pull the repository that it was made from/,
    ],
    [
      'no tokenizer',
      () => hub.repos.set(REPO, hubRepo(omit(tiny, 'tokenizer.json'))),
      {},
      { repo: REPO },
      'model_file_missing',
      /no tokenizer\.json/,
    ],
    [
      'an index that names a path',
      () =>
        hub.repos.set(
          REPO,
          hubRepo({
            ...omit(tiny, 'model.safetensors'),
            'model.safetensors.index.json': '{"weight_map":{"a":"../../etc/x.safetensors"}}',
          }),
        ),
      {},
      { repo: REPO },
      'model_file_corrupt',
      /weight_map/,
    ],
    [
      'a family that is not supported, before its weights',
      () => hub.repos.set(REPO, hubRepo({ ...tiny, 'config.json': '{"model_type":"mamba"}' })),
      {},
      { repo: REPO },
      'model_not_supported',
      /mamba/,
    ],
    [
      'weights that are not what config.json says',
      () => hub.repos.set(REPO, hubRepo({ ...tiny, 'model.safetensors': 'not weights at all' })),
      {},
      { repo: REPO },
      'model_file_corrupt',
      /model\.safetensors/,
    ],
  ];
  test.each(cases)('%s', async (_, prepare, hubChanges, request, code, message) => {
    prepare();
    await start({ hubChanges });
    const pull = await pulled(request);
    expect(pull).toMatchObject({ status: 'failed', error: { code, message: expect.stringMatching(message) } });
    expect(JSON.stringify(pull)).not.toMatch(/script|hf_a|signature/);
    if (code === 'model_not_supported') expect(rangesOfStore()).toEqual([]);
  });

  test('a hub that cannot be reached', async () => {
    const { url } = hub;
    await hub.stop();
    hub = await startHubServer();
    await start({ hubChanges: { endpoint: url } });
    const pull = await pulled();
    expect(pull.error).toMatchObject({
      code: 'hub_unavailable',
      message: expect.stringMatching(/cannot be reached \(ECONNREFUSED\)/),
    });
  });

  test('a hub that is busy for a moment is asked again', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    hub.faults.unavailable.times = 2;
    await start();
    expect(await pulled()).toMatchObject({ status: 'succeeded' });
  });

  test('a model larger than the limit', async () => {
    hub.repos.set(REPO, hubRepo(tiny));
    await start({ limits: { maxBytes: 20_000, keepFreeBytes: 0 } });
    expect((await pulled()).error).toMatchObject({
      code: 'model_not_supported',
      message: expect.stringContaining('MODEL_PULL_MAX_BYTES'),
    });
  });

  test('no puller', async () => {
    await expect(pulls.create({ repo: REPO })).rejects.toMatchObject({
      code: 'service_unavailable',
      message: expect.stringContaining('No puller runs'),
    });
  });

  test('a pull that does not exist', async () => {
    await expect(pulls.get('pull_000000000000000000000000')).rejects.toMatchObject({ code: 'model_pull_not_found' });
  });
});

function omit(files: Record<string, Buffer>, name: string): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(files).filter(([one]) => one !== name));
}

/** Two shards of a safetensors file, with their index. */
function splitSafetensors(file: Buffer): Record<string, Buffer | string> {
  const headerBytes = Number(file.readBigUInt64LE());
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString()) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const names = Object.keys(header).filter((name) => name !== '__metadata__');
  const weightMap: Record<string, string> = {};
  const shards: Record<string, Buffer | string> = {};
  for (const [index, part] of [names.slice(0, 3), names.slice(3)].entries()) {
    const shard = `model-0000${index + 1}-of-00002.safetensors`;
    const entries: Record<string, object> = {};
    const data: Buffer[] = [];
    let offset = 0;
    for (const name of part) {
      const {
        dtype,
        shape,
        data_offsets: [from, to],
      } = header[name]!;
      entries[name] = { dtype, shape, data_offsets: [offset, offset + to - from] };
      offset += to - from;
      data.push(file.subarray(8 + headerBytes + from, 8 + headerBytes + to));
      weightMap[name] = shard;
    }
    const text = Buffer.from(JSON.stringify(entries));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    shards[shard] = Buffer.concat([length, text, ...data]);
  }
  shards['model.safetensors.index.json'] = JSON.stringify({ metadata: {}, weight_map: weightMap });
  return shards;
}
