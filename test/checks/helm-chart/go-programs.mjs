import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cacheDir } from '../../../scripts/setup/locations.mjs';

const run = promisify(execFile);
const { env } = process;
/** The most output of a command, such as the answer about a module. */
const MOST_BYTES = 64 * 2 ** 20;
/** The files of KEDA's folder `pkg/scalers` for the trigger that the chart uses. Those of other triggers need the SDKs of all clouds. */
const KEDA_FILES = ['scaler.go', 'metrics_api_scaler.go'];
/** A constant of all triggers, which is in a file of another one (azure_queue_scaler.go). */
const KEDA_SHARED = 'package scalers\n\nconst externalMetricType = "External"\n';

/** The machine lacks what this check needs, which says nothing about the chart. */
export class Skipped extends Error {}

/**
 * Helm, etcd (named `server`) and kube-apiserver, of the versions in kubernetes/go.mod.
 *
 * @returns {Promise<string>} the folder of the programs
 * @throws {Skipped} without Go or without the modules, which come from the network
 */
export async function kubernetesPrograms() {
  return await built('kubernetes', async (source, bin) => {
    await fetched(['mod', 'download'], { cwd: source });
    const [, version] = /k8s\.io\/kubernetes (v\S+)/.exec(await modOf(source)) ?? [];
    // A release's own build does the same. Helm asks the server for it.
    const named = `-X k8s.io/component-base/version.gitVersion=${version}`;
    await go(['install', `-ldflags=-s -w ${named}`, 'tool'], {
      cwd: source,
      env: { ...env, GOBIN: bin, CGO_ENABLED: '0' },
    });
  });
}

/** The program keda/main.go, with KEDA's own code. @returns {Promise<string>} its path @throws {Skipped} */
export async function kedaProgram() {
  const bin = await built('keda', async (source, into) => {
    const work = await mkdtemp(path.join(tmpdir(), 'lorasmith-keda-'));
    try {
      const keda = path.join(work, 'keda');
      const { Dir } = JSON.parse(
        await fetched(['mod', 'download', '-json', kedaOf(await modOf(source))], { cwd: source }),
      );
      await cp(Dir, keda, { recursive: true });
      // Go's copy is read-only.
      const scalers = path.join(keda, 'pkg/scalers');
      await chmod(scalers, 0o755);
      for (const name of await readdir(scalers)) {
        if (name.endsWith('.go') && !KEDA_FILES.includes(name)) await rm(path.join(scalers, name), { force: true });
      }
      await writeFile(path.join(scalers, 'shared.go'), KEDA_SHARED);
      for (const name of ['go.mod', 'go.sum', 'main.go']) await cp(path.join(source, name), path.join(work, name));
      await go(['mod', 'edit', '-replace', 'github.com/kedacore/keda/v2=./keda'], { cwd: work });
      // Fetches the modules of the packages that are left.
      await fetched(['list', '-deps', '.'], { cwd: work });
      await go(['build', '-o', path.join(into, 'keda'), '.'], { cwd: work, env: { ...env, CGO_ENABLED: '0' } });
    } finally {
      await run('chmod', ['-R', 'u+w', work]);
      await rm(work, { recursive: true, force: true });
    }
  });
  return path.join(bin, 'keda');
}

/** @param {string} module with its version @returns {Promise<string>} the folder of its files @throws {Skipped} */
export async function goModule(module) {
  return JSON.parse(await fetched(['mod', 'download', '-json', module], {})).Dir;
}

/** The module of KEDA with its version. @returns {Promise<string>} */
export async function kedaModule() {
  return kedaOf(await modOf(fileURLToPath(new URL('keda', import.meta.url))));
}

/** @param {string} source @returns {Promise<string>} its go.mod */
const modOf = (source) => readFile(path.join(source, 'go.mod'), 'utf8');

/** @param {string} mod @returns {string} */
function kedaOf(mod) {
  const [, version] = /github\.com\/kedacore\/keda\/v2 (v\S+)/.exec(mod) ?? [];
  return `github.com/kedacore/keda/v2@${version}`;
}

/**
 * Builds programs of a Go module beside this file, once for its files: minutes for each core, and some GB in Go's cache.
 *
 * @param {string} name folder of the module
 * @param {(source: string, bin: string) => Promise<void>} build
 * @returns {Promise<string>} the folder of the programs
 */
async function built(name, build) {
  const source = fileURLToPath(new URL(name, import.meta.url));
  const hash = createHash('sha256');
  for (const file of (await readdir(source)).sort()) hash.update(await readFile(path.join(source, file)));
  const bin = path.join(cacheDir(env), 'helm-chart', `${name}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(bin)) return bin;
  const made = `${bin}.${process.pid}`;
  await mkdir(made, { recursive: true });
  try {
    await build(source, made);
    await rename(made, bin);
  } finally {
    await rm(made, { recursive: true, force: true });
  }
  return bin;
}

/** @param {string[]} args @param {import('node:child_process').ExecFileOptions} options */
async function go(args, options) {
  const { stdout } = await run('go', args, { env, maxBuffer: MOST_BYTES, ...options });
  return stdout.toString();
}

/** A command of Go that needs the network. @param {string[]} args @param {import('node:child_process').ExecFileOptions} options */
async function fetched(args, options) {
  try {
    return await go(args, options);
  } catch (error) {
    const { code, stderr, message } = /** @type {Error & { code?: string, stderr?: string }} */ (error);
    if (code === 'ENOENT') throw new Skipped('Go is not installed');
    throw new Skipped(`go ${args.join(' ')}: ${stderr?.trim().split('\n').at(-1) ?? message}`);
  }
}
