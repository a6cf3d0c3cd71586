import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { localModels } from '@lorasmith/base-models';
import type { ChildProgram } from '@lorasmith/child-processes';
import type { Adapter, ErrorBody } from '@lorasmith/contracts';
import { createLogger, createMetrics, type HttpApp, NO_TRACING } from '@lorasmith/service-kit';
import { type LocalBundleStore, openBundleStore } from '@lorasmith/storage';
import { openSafetensors } from '@lorasmith/weight-files';
import { afterEach, beforeEach, expect } from 'vitest';
import { AdapterLibrary } from '../src/adapters/adapter-library.js';
import { buildApp } from '../src/app.js';
import { AdapterImport } from '../src/importing/adapter-import.js';
import { MergedModels } from '../src/merging/merged-models.js';
import { importProgram, mergeProgram } from './merge-program.js';
import { addBaseModel, REFERENCE } from './published-adapter.js';
import { type RawEntry, tarOf } from './tar-bytes.js';

const runFile = promisify(execFile);
export const INITIAL = join(REFERENCE, 'llama-tied/adapter_init');
export const MAX_BYTES = 2 ** 21;

export let root: string;
export let adapters: LocalBundleStore;
let app: HttpApp;
export let url: string;
export let config: string;
export let weights: Buffer;

/** Starts a new registry with one base model before each test of the file. */
export function useImportingRegistry(): void {
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'registry-import-'));
    adapters = await openBundleStore({ root: join(root, 'data'), kind: 'adapters' });
    await addBaseModel(join(root, 'models'), 'llama-tied');
    config = await readFile(join(INITIAL, 'adapter_config.json'), 'utf8');
    weights = await readFile(join(INITIAL, 'adapter_model.safetensors'));
    await listen();
  });
  afterEach(async () => {
    await app.close();
    await rm(root, { recursive: true });
  });
}

/** Restarts it with another import process, or other limits. */
export async function listen({
  program = importProgram(),
  timeoutMs = 60_000,
  maxStoredBytes = MAX_BYTES,
}: {
  program?: ChildProgram;
  timeoutMs?: number;
  maxStoredBytes?: number;
} = {}): Promise<void> {
  await app?.close();
  const baseModels = localModels(join(root, 'models'));
  const weightDigests = join(root, 'data/weight-digests');
  const merged = await openBundleStore({ root: join(root, 'data'), kind: 'merged' });
  const models = await MergedModels.open({
    adapters,
    merged,
    baseModels,
    weightDigests,
    program: mergeProgram(),
    cacheBytes: 2 ** 30,
    mergeTimeoutMs: 60_000,
    waitTimeoutMs: 60_000,
    tracing: NO_TRACING,
    onEvent: () => {},
  });
  const library = new AdapterLibrary({ store: adapters, onBroken: () => {} });
  app = await buildApp({
    logger: createLogger({ service: 'registry', level: 'silent' }),
    metrics: createMetrics({ service: 'registry' }),
    tracing: NO_TRACING,
    library,
    adapters,
    merged,
    models,
    imports: new AdapterImport({ adapters, library, baseModels, weightDigests, program, timeoutMs, maxStoredBytes }),
    secret: null,
    readyChecks: {},
    maxImportBytes: MAX_BYTES,
    downloadStallMs: 60_000,
    dataDir: join(root, 'data'),
    folderToken: 'a token',
    redirectDownloads: false,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
}

export async function post(
  body: Uint8Array | string,
  query = '?base_model=llama-tied',
  headers: Record<string, string> = {},
) {
  const response = await fetch(`${url}/adapters${query}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-tar', ...headers },
    body: body as Uint8Array<ArrayBuffer>,
  });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Adapter & { error: ErrorBody['error'] },
  };
}

/** The tar that the system's `tar` creates from a folder. */
export async function tarOfFolder(folder: string, ...what: string[]): Promise<Buffer> {
  await runFile('tar', ['-cf', join(root, 'adapter.tar'), '-C', folder, ...(what.length > 0 ? what : ['.'])]);
  return await readFile(join(root, 'adapter.tar'));
}

export const peftFiles = (): RawEntry[] => [
  { name: 'adapter_config.json', content: config },
  { name: 'adapter_model.safetensors', content: weights },
];
export const withConfig = (change: object) =>
  tarOf([
    { name: 'adapter_config.json', content: JSON.stringify({ ...JSON.parse(config), ...change }) },
    peftFiles()[1]!,
  ]);

export async function nothingIsLeft(): Promise<void> {
  expect(await adapters.list()).toEqual([]);
  expect(await readdir(join(root, 'data/.staging'))).toEqual([]);
}

/** The raw bytes of every tensor of the file. */
export async function tensorsOf(file: string): Promise<Map<string, Buffer>> {
  const opened = await openSafetensors(file);
  const tensors = new Map<string, Buffer>();
  for (const name of [...opened.tensors.keys()].sort()) tensors.set(name, Buffer.from(await opened.read(name)));
  await opened.close();
  return tensors;
}
