// npm run helm-chart: checks docker/helm/lorasmith with Helm and a real kube-apiserver, both built from their Go modules. Each set of values is linted,
// rendered, checked by the server object by object with strict fields, installed, upgraded and removed. Without Go or its modules it is skipped, and says so.

import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parse, parseAllDocuments } from 'yaml';
import { packFolder } from '../../scripts/release/archives.mjs';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { ApiServer, goModule, kedaModule, kedaProgram, kubernetesPrograms, Skipped } from './helm-chart/kubernetes.mjs';
import { askAsKeda, runHelmTest } from './helm-chart/real-stack.mjs';
import { inFiles, WRONG_TOGETHER, wrongValues } from './helm-chart/wrong-values.mjs';

/**
 * @typedef {import('./helm-chart/kubernetes.mjs').Manifest} Manifest
 * @typedef {object} ComposeService
 * @property {Record<string, string>} [environment]
 * @property {string[] | Record<string, unknown>} networks
 */

/** Services of docker-compose.yml and the parts of the chart. */
const PARTS = { api: 'api', registry: 'registry', puller: 'puller', worker: 'worker-cpu', redis: 'redis' };
/** Values that are made for the place: addresses, and the card that the chart's first class has not. */
const OF_PLACE = ['REDIS_URL', 'REGISTRY_URL', 'DEVICE', 'API_PUBLISHED_HOST'];

/**
 * The differences of a chart's pods, as it is by default, from the services of docker-compose.yml in variables and connections.
 *
 * @param {Record<string, ComposeService>} services
 * @param {Manifest[]} manifests
 * @returns {string[]}
 */
function differencesFromCompose(services, manifests) {
  return Object.entries(PARTS).flatMap(([name, part]) => {
    const service = services[name];
    const pods = manifests.find(({ metadata, spec }) => spec?.template && metadata.name.endsWith(`-${part}`));
    const policy = manifests.find(
      ({ kind, metadata }) =>
        kind === 'NetworkPolicy' && metadata.name.endsWith(name === 'worker' ? '-workers' : `-${part}`),
    );
    if (service === undefined || pods === undefined || policy === undefined) return [`${name} is missing`];
    const networks = Array.isArray(service.networks) ? service.networks : Object.keys(service.networks);
    const isOutside = policy.spec.egress.some((/** @type {any} */ { to }) =>
      to?.some((/** @type {any} */ { ipBlock }) => ipBlock !== undefined),
    );
    const differences = networks.includes('outside') === isOutside ? [] : [`${name}: only one of both reaches outside`];
    /** @type {{ name: string, value?: string }[]} */
    const env = pods.spec.template.spec.containers[0].env ?? [];
    const here = new Map(env.map((one) => [one.name, one.value ?? '']));
    for (const [variable, value] of Object.entries(service.environment ?? {})) {
      // Empty where Compose hides a variable of .env, or takes it from there.
      const isUsed = value !== '' && !/^\$\{\w+:[-+]\}?$/.test(value) && !value.startsWith('${REDIS_CA_FILE:+');
      const isHere = (here.get(variable) ?? '') !== '';
      if (isUsed !== isHere) differences.push(`${name}: only one of both sets ${variable}`);
      else if (isUsed && !OF_PLACE.includes(variable) && here.get(variable) !== value) {
        differences.push(`${name}: ${variable} is ${value} in Compose, ${here.get(variable)} here`);
      }
    }
    return differences;
  });
}

const CHART = path.join(ROOT_DIR, 'docker/helm/lorasmith');
const VALUE_SETS = fileURLToPath(new URL('helm-chart/value-sets', import.meta.url));
const RELEASE = 'check';
const NAMESPACE = 'lorasmith';
/** The version for which Helm renders without a server. */
const KUBERNETES = '1.34.3';
/** The modules that have the CustomResourceDefinitions, besides KEDA's, and where. */
const CRDS = [
  { module: 'sigs.k8s.io/gateway-api@v1.4.1', folder: 'config/crd/standard', files: /httproutes\.yaml$/ },
  {
    module: 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    folder: 'example/prometheus-operator-crd',
    files: /_(servicemonitors|prometheusrules)\.yaml$/,
  },
];
/** The label of a namespace in which a pod must keep to the Pod Security Standard `restricted`. */
const RESTRICTED = { 'pod-security.kubernetes.io/enforce': 'restricted' };

const run = promisify(execFile);
const signal = interruption();
let number = 0;
let failed = 0;
/** @param {string} name @param {() => Promise<string | undefined>} work returns a line for the report */
async function step(name, work) {
  signal.throwIfAborted();
  number += 1;
  const startedAt = Date.now();
  try {
    const result = await work();
    const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
    console.log(`ok ${number} - ${name} (${seconds} s)${result ? `\n    ${result}` : ''}`);
  } catch (error) {
    if (error instanceof Skipped) throw error;
    failed += 1;
    console.log(`not ok ${number} - ${name}\n${error instanceof Error ? error.message : error}`);
  }
}

const work = await mkdtemp(path.join(tmpdir(), 'lorasmith-helm-chart-'));
/** @type {ApiServer | undefined} */
let server;
try {
  const bin = await kubernetesPrograms();
  /** @param {string[]} args */
  const helm = async (...args) => {
    const env = { ...process.env, KUBECONFIG: server?.kubeconfig ?? path.join(work, 'none'), HELM_CACHE_HOME: work };
    const { stdout, stderr } = await run(path.join(bin, 'helm'), args, { env, maxBuffer: 64 * 2 ** 20 });
    return { stdout, stderr };
  };
  await check(helm, bin);
  console.log(`\n${number - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
} catch (error) {
  if (!(error instanceof Skipped)) throw error;
  console.log(`skipped: ${error.message}`);
} finally {
  await server?.stop();
  await rm(work, { recursive: true, force: true });
}

/**
 * @param {(...args: string[]) => Promise<{ stdout: string, stderr: string }>} helm
 * @param {string} bin
 */
async function check(helm, bin) {
  const sets = (await readdir(VALUE_SETS)).map((name) => ({ name, file: path.join(VALUE_SETS, name) }));
  const render = async (/** @type {string} */ file) => {
    const { stdout } = await helm('template', RELEASE, CHART, '--kube-version', KUBERNETES, '--values', file);
    return parseAllDocuments(stdout)
      .map((document) => /** @type {Manifest | null} */ (document.toJS()))
      .filter((manifest) => manifest !== null);
  };

  for (const { name, file } of sets) {
    await step(`helm lint, ${name}`, async () => {
      const options = ['--strict', '--kube-version', KUBERNETES, '--values', file];
      await helm('lint', CHART, ...options);
      return undefined;
    });
  }
  await step('the schema refuses wrong values, and names each', checkWrongValues);
  for (const { name, values, says } of WRONG_TOGETHER) {
    await step(`${name} is refused`, async () => {
      const said = await refusal(values);
      if (!says.test(said)) throw new Error(`Helm says nothing of ${says}: ${said}`);
      return undefined;
    });
  }
  await step('its pods have the variables and connections of docker-compose.yml', async () => {
    const { services } = parse(await readFile(path.join(ROOT_DIR, 'docker-compose.yml'), 'utf8'), { merge: true });
    const differences = differencesFromCompose(services, await render(path.join(VALUE_SETS, 'minimal.yaml')));
    if (differences.length > 0) throw new Error(differences.join('\n'));
    return undefined;
  });
  await step('Helm renders the chart of a release as it renders its folder', async () => {
    const archive = path.join(work, 'lorasmith.tgz');
    await packFolder(CHART, archive, 0);
    const rendered = (/** @type {string} */ chart) =>
      helm('template', RELEASE, chart, '--kube-version', KUBERNETES, '--values', path.join(VALUE_SETS, 'keda.yaml'));
    const [{ stdout: packed }, { stdout: unpacked }] = await Promise.all([rendered(archive), rendered(CHART)]);
    if (packed !== unpacked) throw new Error('they differ');
    const { stdout: alerts } = await run('tar', ['-xzOf', archive, 'lorasmith/files/alerts.yml']);
    if (alerts !== (await readFile(path.join(ROOT_DIR, 'docker/monitoring/alerts.yml'), 'utf8'))) {
      throw new Error('its alerts are not those of docker/monitoring');
    }
    return undefined;
  });

  await step('the program of `helm test` trains through a real api, and leaves nothing', () =>
    runHelmTest(path.join(CHART, 'files/train.mjs')),
  );

  const kubernetes = await ApiServer.start(bin);
  server = kubernetes;
  await step('a kube-apiserver runs, with the resources of others that the chart uses', async () => {
    const kinds = [];
    const keda = {
      module: await kedaModule(),
      folder: 'config/crd/bases',
      files: /keda\.sh_(scaledobjects|triggerauthentications)\.yaml$/,
    };
    for (const { module, folder, files } of [keda, ...CRDS]) {
      const from = path.join(await goModule(module), folder);
      for (const name of (await readdir(from)).filter((one) => files.test(one))) {
        const definition = parseAllDocuments(await readFile(path.join(from, name), 'utf8'))
          .map((document) => document.toJS())
          .find((one) => one !== null);
        await created(kubernetes.create(definition, { namespace: '', isDryRun: false }));
        const { group, names, versions } = definition.spec;
        for (const version of versions.filter((/** @type {any} */ one) => one.served)) {
          await kubernetes.knows(`${group}/${version.name}`, names.kind);
        }
        kinds.push(names.kind);
      }
    }
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE, labels: RESTRICTED } };
    await created(kubernetes.create(namespace, { namespace: '', isDryRun: false }));
    // What the cluster has to offer besides.
    const runtime = {
      apiVersion: 'node.k8s.io/v1',
      kind: 'RuntimeClass',
      metadata: { name: 'nvidia' },
      handler: 'nvidia',
    };
    await created(kubernetes.create(runtime, { namespace: '', isDryRun: false }));
    const { body } = await kubernetes.call('GET', '/version');
    return `Kubernetes ${body.gitVersion}, ${kinds.join(', ')}`;
  });

  for (const { name, file } of sets) {
    await step(`the server accepts every object, ${name}`, async () => {
      const manifests = await render(file);
      const faults = [];
      for (const manifest of manifests) {
        const { status, body, warnings } = await kubernetes.create(manifest, { namespace: NAMESPACE, isDryRun: true });
        const label = `${manifest.kind} ${manifest.metadata.name}`;
        if (status >= 300) faults.push(`${label}: ${body.message}`);
        for (const warning of warnings) faults.push(`${label}: ${warning}`);
      }
      if (faults.length > 0) throw new Error(faults.join('\n'));
      const kinds = manifests.map(({ kind }) => kind).sort();
      return [...new Set(kinds)].map((kind) => `${kinds.filter((one) => one === kind).length} ${kind}`).join(', ');
    });
    await step(`every pod may run in a restricted namespace, ${name}`, async () => {
      const pods = (await render(file)).flatMap(podOf);
      const priorities = new Set(pods.flatMap(({ priorityClass }) => priorityClass ?? []));
      for (const name of priorities) {
        const priority = { apiVersion: 'scheduling.k8s.io/v1', kind: 'PriorityClass', metadata: { name }, value: 1 };
        await created(kubernetes.create(priority, { namespace: '', isDryRun: false }));
      }
      try {
        for (const { pod } of pods) await created(kubernetes.create(pod, { namespace: NAMESPACE, isDryRun: true }));
      } finally {
        for (const name of priorities) {
          await kubernetes.call('DELETE', `/apis/scheduling.k8s.io/v1/priorityclasses/${name}`);
        }
      }
      return pods.map(({ pod }) => pod.metadata.name).join(', ');
    });
  }

  for (const { name, file } of sets) {
    await step(`helm installs ${name}, upgrades to another version, rolls back and removes it`, async () => {
      const inNamespace = ['--namespace', NAMESPACE];
      await helm('install', RELEASE, CHART, ...inNamespace, '--values', file);
      try {
        const installed = await objects(helm);
        await helm('upgrade', RELEASE, CHART, ...inNamespace, '--values', file, '--set', 'images.tag=next');
        if ((await objects(helm)) === installed) throw new Error('the upgrade changes nothing');
        await helm('rollback', RELEASE, '1', ...inNamespace);
        if ((await objects(helm)) !== installed) throw new Error('after the rollback its objects are others');
      } finally {
        await helm('uninstall', RELEASE, ...inNamespace);
        // The chart keeps the claims that it made.
        for (const claim of ['data', 'models']) {
          const call = `/api/v1/namespaces/${NAMESPACE}/persistentvolumeclaims/${RELEASE}-lorasmith-${claim}`;
          await kubernetes.call('DELETE', call);
        }
      }
      return undefined;
    });
  }

  await step('KEDA, asking the api, starts workers of the class that a waiting job fits into', async () => {
    const manifests = await render(path.join(VALUE_SETS, 'keda.yaml'));
    const scaled = manifests.filter(({ kind }) => kind === 'ScaledObject');
    const triggers = new Map(
      scaled.map(({ metadata, spec }) => [metadata.name.split('-').at(-1) ?? '', spec.triggers[0]]),
    );
    const api = manifests.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name.endsWith('-api'));
    const classes = Object.fromEntries(
      api?.spec.template.spec.containers[0].env.flatMap((/** @type {{ name: string, value: string }} */ one) =>
        one.name.startsWith('WORKER_CLASS') ? [[one.name, one.value]] : [],
      ),
    );
    return await askAsKeda({
      program: await kedaProgram(),
      triggers,
      classes,
      expected: { fits: 'a10g', larger: 'h100' },
    });
  });

  /** @param {any} values @returns {Promise<string>} what Helm says */
  async function refusal(values) {
    const file = path.join(work, 'wrong.json');
    await writeFile(file, JSON.stringify(values));
    try {
      await helm('template', RELEASE, CHART, '--kube-version', KUBERNETES, '--values', file);
    } catch (error) {
      return /** @type {{ stderr: string }} */ (error).stderr;
    }
    throw new Error(`Helm accepts ${JSON.stringify(values).slice(0, 500)}`);
  }

  async function checkWrongValues() {
    const schema = JSON.parse(await readFile(path.join(CHART, 'values.schema.json'), 'utf8'));
    const wrongs = wrongValues(schema);
    const files = inFiles(wrongs);
    for (const { values, paths } of files) {
      const said = await refusal(values);
      const unnamed = paths.filter((name) => !said.includes(`'/${name}'`));
      if (unnamed.length > 0) throw new Error(`accepted: ${unnamed.join(', ')}\n${said.slice(0, 2_000)}`);
    }
    return `${wrongs.length} wrong values in ${files.length} files`;
  }
}

/** @param {Promise<import('./helm-chart/kubernetes.mjs').Answer>} answer */
async function created(answer) {
  const { status, body } = await answer;
  if (status >= 300) throw new Error(body.message ?? JSON.stringify(body));
}

/** @param {Manifest} manifest @returns {{ pod: Manifest, priorityClass: string | null }[]} the pod that its controller would make */
function podOf({ kind, metadata, spec }) {
  const template = kind === 'Pod' ? { spec } : spec?.template;
  if (template?.spec?.containers === undefined) return [];
  const { priorityClassName = null, volumes = [] } = template.spec;
  const claimed = (spec.volumeClaimTemplates ?? []).map((/** @type {any} */ claim) => {
    const { name } = claim.metadata;
    return { name, persistentVolumeClaim: { claimName: name } };
  });
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...template.metadata, name: metadata.name },
    spec: { ...template.spec, volumes: [...volumes, ...claimed] },
  };
  return [{ pod, priorityClass: priorityClassName }];
}

/** @param {(...args: string[]) => Promise<{ stdout: string }>} helm @returns {Promise<string>} the manifests of the release */
async function objects(helm) {
  return (await helm('get', 'manifest', RELEASE, '--namespace', NAMESPACE)).stdout;
}
