import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { availablePort } from '../../../scripts/stack/ports.mjs';

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
