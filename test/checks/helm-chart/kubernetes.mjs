import { execFile, spawn } from 'node:child_process';
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { availablePort } from '../../../scripts/stack/ports.mjs';

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

/**
 * @typedef {object} Manifest
 * @property {string} apiVersion
 * @property {string} kind
 * @property {{ name: string, labels?: Record<string, string> }} metadata
 * @property {any} [spec]
 *
 * @typedef {object} Answer
 * @property {number} status
 * @property {any} body
 * @property {string[]} warnings
 */

/** The time that etcd and the api server may take to be ready on a busy machine. */
const START_MS = 180_000;

/** A kube-apiserver with an etcd, and nothing that would act on what it stores. */
export class ApiServer {
  /** @type {import('node:child_process').ChildProcess[]} */
  #processes = [];
  #folder = '';
  #port = 0;
  #token = randomBytes(16).toString('hex');
  /** @type {Buffer | undefined} */
  #ca;
  /** @type {Map<string, Promise<any[]>>} */
  #resources = new Map();

  /** Path of a kubeconfig of an administrator. */
  kubeconfig = '';

  /** @param {string} bin folder of the programs `server` (etcd) and `kube-apiserver` */
  static async start(bin) {
    const server = new ApiServer();
    try {
      await server.#start(bin);
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** @param {string} bin */
  async #start(bin) {
    this.#folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-kubernetes-'));
    const file = (/** @type {string} */ name) => path.join(this.#folder, name);
    const port = () => availablePort('127.0.0.1', 0, 'port');
    const [client, peer] = [await port(), await port()];
    this.#port = await port();
    const etcd = `http://127.0.0.1:${client}`;
    const peers = `http://127.0.0.1:${peer}`;
    const clients = [`--listen-client-urls=${etcd}`, `--advertise-client-urls=${etcd}`];
    const cluster = [`--listen-peer-urls=${peers}`, `--initial-advertise-peer-urls=${peers}`];
    this.#run(path.join(bin, 'server'), [
      ...[`--data-dir=${file('etcd')}`, ...clients, ...cluster, `--initial-cluster=default=${peers}`],
      ...['--unsafe-no-fsync', '--log-level=warn'],
    ]);
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await writeFile(file('key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    await writeFile(file('tokens.csv'), `${this.#token},admin,admin,system:masters\n`, { mode: 0o600 });
    this.#run(path.join(bin, 'kube-apiserver'), [
      ...[`--etcd-servers=${etcd}`, '--bind-address=127.0.0.1', `--secure-port=${this.#port}`],
      ...['--advertise-address=127.0.0.1', '--endpoint-reconciler-type=none', `--cert-dir=${file('certificates')}`],
      ...['--service-account-issuer=https://kubernetes.default.svc', `--service-account-key-file=${file('key.pem')}`],
      ...[`--service-account-signing-key-file=${file('key.pem')}`, `--token-auth-file=${file('tokens.csv')}`],
      ...['--authorization-mode=RBAC', '--service-cluster-ip-range=10.0.0.0/24'],
      // Nothing makes the account `default` here, and nothing ends the protection of a claim.
      '--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection',
    ]);
    const endsAt = Date.now() + START_MS;
    while (!(await this.#isReady(file('certificates/apiserver.crt')))) {
      const ended = this.#processes.find(({ exitCode }) => exitCode !== null);
      if (ended !== undefined || Date.now() > endsAt) throw new Error(`it did not get ready:\n${await this.#logs()}`);
      await sleep(200);
    }
    const cluster0 = {
      server: `https://127.0.0.1:${this.#port}`,
      'certificate-authority-data': this.#ca?.toString('base64'),
      'tls-server-name': 'kubernetes',
    };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'check', cluster: cluster0 }],
      users: [{ name: 'admin', user: { token: this.#token } }],
      contexts: [{ name: 'check', context: { cluster: 'check', user: 'admin' } }],
      'current-context': 'check',
    };
    this.kubeconfig = file('kubeconfig.json');
    await writeFile(this.kubeconfig, JSON.stringify(config), { mode: 0o600 });
  }

  /** @param {string} program @param {string[]} args */
  #run(program, args) {
    const log = createWriteStream(path.join(this.#folder, `${path.basename(program)}.log`));
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.pipe(log);
    child.stderr.pipe(log);
    this.#processes.push(child);
  }

  /** @param {string} certificate */
  async #isReady(certificate) {
    try {
      this.#ca ??= await readFile(certificate);
      return (await this.call('GET', '/readyz')).status === 200;
    } catch {
      return false;
    }
  }

  async #logs() {
    const names = ['server.log', 'kube-apiserver.log'];
    const texts = await Promise.all(
      names.map((name) => readFile(path.join(this.#folder, name), 'utf8').catch(() => '')),
    );
    return texts.map((text) => text.split('\n').slice(-15).join('\n')).join('\n');
  }

  /** @param {string} method @param {string} call @param {unknown} [body] @returns {Promise<Answer>} */
  async call(method, call, body) {
    const headers = { authorization: `Bearer ${this.#token}`, 'content-type': 'application/json' };
    const options = { host: '127.0.0.1', port: this.#port, servername: 'kubernetes', ca: this.#ca, method, headers };
    const sent = request({ ...options, path: call });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = /** @type {[import('node:http').IncomingMessage]} */ (await once(sent, 'response'));
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk;
    const isJson = response.headers['content-type']?.includes('json');
    const warnings = [response.headers.warning ?? []].flat();
    return { status: response.statusCode ?? 0, body: isJson ? JSON.parse(text) : text, warnings };
  }

  /**
   * Creates an object, or checks it only: admission, defaults, validation, and no unknown or repeated field.
   *
   * @param {Manifest} manifest
   * @param {{ namespace: string, isDryRun: boolean }} options
   */
  async create(manifest, { namespace, isDryRun }) {
    const { apiVersion, kind } = manifest;
    const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    let resources = this.#resources.get(base);
    if (resources === undefined) {
      resources = this.call('GET', base).then(({ body }) => body.resources ?? []);
      this.#resources.set(base, resources);
    }
    const resource = (await resources).find((one) => one.kind === kind && !one.name.includes('/'));
    if (resource === undefined) {
      this.#resources.delete(base);
      throw new Error(`${apiVersion} ${kind} is not known to this Kubernetes`);
    }
    const place = resource.namespaced ? `${base}/namespaces/${namespace}` : base;
    const query = `fieldValidation=Strict&fieldManager=check${isDryRun ? '&dryRun=All' : ''}`;
    return await this.call('POST', `${place}/${resource.name}?${query}`, manifest);
  }

  /** Waits until objects of this kind can be created. @param {string} apiVersion @param {string} kind */
  async knows(apiVersion, kind) {
    const endsAt = Date.now() + START_MS;
    for (;;) {
      const { body } = await this.call('GET', `/apis/${apiVersion}`);
      if (body.resources?.some((/** @type {any} */ one) => one.kind === kind)) return;
      if (Date.now() > endsAt) throw new Error(`${apiVersion} ${kind} did not become available`);
      await sleep(100);
    }
  }

  async stop() {
    for (const child of this.#processes.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}
