import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { SERVICE_PROGRAMS } from '../../scripts/stack/service-programs.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { tarOf } from '../../services/registry/test/tar-bytes.js';
import { createKey } from '../api-keys.js';
import { writeTinyLlama } from '../tiny-llama.js';
import { ask, CANARY, type RequestContent } from './ask.js';

const REFERENCE = new URL('../fixtures/reference/llama-tied/', import.meta.url);

/** Limits of the stack under attack, so low that cases can exceed them. */
export const LIMITS = { datasetBytes: 120_000_000, lineBytes: 1_000_000, importBytes: 2_000_000 };

/** The real api, registry and Redis with their own folders, which contain data to attack. */
export interface HostileStack {
  apiUrl: string;
  registryUrl: string;
  redisUrl: string;
  /** The API key for cases that do not send another one; null: none. */
  token: string | null;
  /** Contains all folders that the services may use: `data`, `models`, and their home and temporary folders. */
  root: string;
  modelsDir: string;
  /** A dataset of prompts and completions. */
  dataset: string;
  /** An imported adapter for `tiny-llama`. */
  adapter: string;
  /** A job that stays queued, because no worker runs. */
  job: string;
  /** The content of the adapter's two files before the import. */
  peft: { config: Record<string, unknown>; weights: Buffer };
  /** The end of a service that should still run; null if all run. */
  crashed(): string | null;
  stop(): Promise<void>;
}

/**
 * @param settings - Further settings of the services, in addition to those of their folders
 * @param role - Role of the API key that owns the data; null: there are no API keys
 */
export async function startHostileStack(
  settings: NodeJS.ProcessEnv = {},
  role: 'train' | null = null,
): Promise<HostileStack> {
  const root = await mkdtemp(path.join(tmpdir(), 'lorasmith-hostile-'));
  const [dataDir, modelsDir] = [path.join(root, 'data'), path.join(root, 'models')];
  for (const folder of ['data', 'tmp', 'home']) await mkdir(path.join(root, folder));
  await writeFile(path.join(root, 'secret.txt'), CANARY);
  await writeTinyLlama(path.join(modelsDir, 'tiny-llama'));
  const running = await startStack({
    dataDir,
    modelsDir,
    services: SERVICE_PROGRAMS.filter(({ name }) => name !== 'worker'),
    env: {
      ...process.env,
      TMPDIR: path.join(root, 'tmp'),
      HOME: path.join(root, 'home'),
      DATASET_MAX_BYTES: String(LIMITS.datasetBytes),
      DATASET_MAX_LINE_BYTES: String(LIMITS.lineBytes),
      IMPORT_MAX_BYTES: String(LIMITS.importBytes),
      // A pull is accepted, and then fails at once.
      HF_HUB_OFFLINE: '1',
      // No import calls anything.
      IMPORT_OPENAI_URLS: 'https://import.invalid/v1',
      WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 1).toString('base64')}`,
      ...settings,
    },
  });
  let crashed: string | null = null;
  void running.failed.then((error) => {
    crashed = String(error);
  });
  const peft = {
    config: JSON.parse(await readFile(new URL('adapter_init/adapter_config.json', REFERENCE), 'utf8')),
    weights: await readFile(new URL('adapter_init/adapter_model.safetensors', REFERENCE)),
  };
  const stack: HostileStack = {
    apiUrl: running.apiUrl,
    registryUrl: running.registryUrl,
    redisUrl: running.redisUrl,
    token: null,
    root,
    modelsDir,
    dataset: '',
    adapter: '',
    job: '',
    peft,
    crashed: () => crashed,
    async stop() {
      await running.stop();
      await rm(root, { recursive: true, force: true });
    },
  };
  try {
    if (role !== null) stack.token = await createKey(stack, role);
    await fill(stack);
  } catch (error) {
    await stack.stop();
    throw error;
  }
  return stack;
}

async function fill(stack: HostileStack): Promise<void> {
  const idOf = async (method: string, target: string, content: RequestContent) => {
    const { status, text } = await ask(stack, method, target, content);
    if (status >= 300) throw new Error(`the data of the stack could not be created: ${status} ${text}`);
    return String((JSON.parse(text) as { id: unknown }).id);
  };
  const rows = Array.from({ length: 4 }, (_, i) => JSON.stringify({ prompt: `Say ${i}.`, completion: ` It is ${i}.` }));
  stack.dataset = await idOf('POST', '/datasets', {
    headers: { 'content-type': 'application/x-ndjson' },
    body: rows.join('\n'),
  });
  stack.adapter = await idOf('POST', '/adapters?base_model=tiny-llama', {
    headers: { 'content-type': 'application/x-tar' },
    body: adapterTarOf(stack),
  });
  stack.job = await idOf('POST', '/jobs', {
    headers: { 'content-type': 'application/json', 'idempotency-key': 'the-first' },
    body: JSON.stringify({ base_model: 'tiny-llama', dataset: stack.dataset }),
  });
}

/** The tar of a valid adapter. */
export function adapterTarOf({ peft }: Pick<HostileStack, 'peft'>): Buffer {
  return tarOf([
    { name: 'adapter_config.json', content: JSON.stringify(peft.config) },
    { name: 'adapter_model.safetensors', content: peft.weights },
  ]);
}

/** Digests of all files and folders of `root` that the attacks must not change: all except the data folder. */
export async function treeOutsideData({ root }: HostileStack): Promise<Record<string, string>> {
  const tree: Record<string, string> = {};
  const look = async (folder: string) => {
    for (const entry of await readdir(path.join(root, folder), { withFileTypes: true })) {
      const name = path.join(folder, entry.name);
      const content = entry.isFile() ? await readFile(path.join(root, name)) : '';
      tree[name] = `${entry.isDirectory() ? 'folder' : 'file'} ${createHash('sha256').update(content).digest('hex')}`;
      if (entry.isDirectory() && name !== 'data') await look(name);
    }
  };
  await look('.');
  return tree;
}

/** Names of incomplete files and folders in the data folder. */
export async function stagings({ root }: HostileStack): Promise<string[]> {
  return await readdir(path.join(root, 'data/.staging'));
}
