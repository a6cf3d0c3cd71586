import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { SERVICE_PROGRAMS } from '../../scripts/stack/service-programs.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { tarOf } from '../../services/registry/test/tar-bytes.js';
import { writeTinyLlama } from '../tiny-llama.js';
import { ask, CANARY, type Question } from './ask.js';

const run = promisify(execFile);
const KEYS_PROGRAM = fileURLToPath(new URL('../../services/api/dist/keys.js', import.meta.url));

const REFERENCE = new URL('../fixtures/reference/llama-tied/', import.meta.url);

/** Limits of the stack under attack, low where a case must go past them. */
export const LIMITS = { datasetBytes: 120_000_000, lineBytes: 1_000_000, importBytes: 2_000_000 };

/** Api, registry and Redis as they are run, on folders of their own, with something in them to attack. */
export interface HostileStack {
  apiUrl: string;
  redisUrl: string;
  /** The API key that is sent where a case sends none of its own; null: none. */
  token: string | null;
  /** All the services may touch is below: `data`, `models`, and the home and temporary folders they are given. */
  root: string;
  modelsDir: string;
  /** A dataset of prompts and completions. */
  dataset: string;
  /** An imported adapter for `tiny-llama`. */
  adapter: string;
  /** A job that nobody takes, for no worker runs. */
  job: string;
  /** What the adapter's two files hold, as they were brought in. */
  peft: { config: Record<string, unknown>; weights: Buffer };
  /** How an api or registry ended that should have lived; null while all do. */
  fallen(): string | null;
  stop(): Promise<void>;
}

/**
 * @param settings - Of the services, besides those that keep them to their folders
 * @param role - Of the key that is made, and whose the things in it are; null: there are no keys
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
      ...settings,
    },
  });
  let fallen: string | null = null;
  void running.failed.then((error) => {
    fallen = String(error);
  });
  const peft = {
    config: JSON.parse(await readFile(new URL('adapter_init/adapter_config.json', REFERENCE), 'utf8')),
    weights: await readFile(new URL('adapter_init/adapter_model.safetensors', REFERENCE)),
  };
  const stack: HostileStack = {
    apiUrl: running.apiUrl,
    redisUrl: running.redisUrl,
    token: null,
    root,
    modelsDir,
    dataset: '',
    adapter: '',
    job: '',
    peft,
    fallen: () => fallen,
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

/** A key of the stack, made as an operator makes it. */
export async function createKey({ redisUrl }: Pick<HostileStack, 'redisUrl'>, role: 'train'): Promise<string> {
  const { stdout } = await run(
    process.execPath,
    [KEYS_PROGRAM, 'create', '--name', 'hostile', '--role', role, '--json'],
    {
      env: { ...process.env, REDIS_URL: redisUrl },
    },
  );
  return (JSON.parse(stdout) as { token: string }).token;
}

async function fill(stack: HostileStack): Promise<void> {
  const idOf = async (method: string, target: string, question: Question) => {
    const { status, text } = await ask(stack, method, target, question);
    if (status >= 300) throw new Error(`the stack could not be filled: ${status} ${text}`);
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

/** The tar of a good adapter. */
export function adapterTarOf({ peft }: Pick<HostileStack, 'peft'>): Buffer {
  return tarOf([
    { name: 'adapter_config.json', content: JSON.stringify(peft.config) },
    { name: 'adapter_model.safetensors', content: peft.weights },
  ]);
}

/** Every file and folder that the attacks must leave as it is, with a digest: all of `root` but the data folder. */
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

/** Names of what is half-made in the data folder. */
export async function stagings({ root }: HostileStack): Promise<string[]> {
  return await readdir(path.join(root, 'data/.staging'));
}
