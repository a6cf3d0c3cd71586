import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { settingsOf } from '../packages/service-kit/src/index.js';
import { MAX_HEAP_MB } from '../services/api/src/jobs/preflight-threads.js';
import { PULLER_SETTINGS } from '../services/api/src/puller-settings.js';
import { API_SETTINGS } from '../services/api/src/settings.js';
import { REGISTRY_SETTINGS } from '../services/registry/src/config.js';
import { WORKER_SETTINGS } from '../services/worker/src/settings.js';

// The rules for all compose files. They are checked as YAML, which needs no Docker, and with Compose itself if it is
// installed. test/checks/compose-smoke.mjs runs the files.

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const hasCompose = spawnSync('docker', ['compose', 'version']).status === 0;
if (!hasCompose)
  console.log('Skipped, since docker compose is not installed: `docker compose config` of the compose files.');

interface Service {
  image: string;
  user?: string;
  build?: { target?: string };
  environment?: Record<string, string>;
  ports?: string[];
  networks: string[] | Record<string, unknown>;
  restart: string;
  read_only: boolean;
  cap_drop: string[];
  security_opt: string[];
  logging: { options: Record<string, string> };
  deploy: { resources: { limits: Record<string, string>; reservations?: { devices: { device_ids: string[] }[] } } };
  profiles?: string[];
  depends_on?: Record<string, { condition: string }>;
  volumes?: (string | { target: string; read_only?: boolean })[];
}

let services: Record<string, Service>;
let networks: Record<string, { internal?: boolean }>;
let text: string;
let dockerfile: string;

beforeAll(async () => {
  text = await readFile(path.join(ROOT, 'docker-compose.yml'), 'utf8');
  ({ services, networks } = parse(text, { merge: true }));
  dockerfile = await readFile(path.join(ROOT, 'docker/Dockerfile'), 'utf8');
});

test('every service restarts, has limits, and has no unnecessary privileges', () => {
  expect(Object.keys(services).slice(0, 4)).toEqual(['redis', 'api', 'registry', 'worker']);
  for (const service of Object.values(services)) {
    expect(service).toMatchObject({
      restart: 'unless-stopped',
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
      logging: { options: { 'max-size': expect.any(String), 'max-file': expect.any(String) } },
      deploy: { resources: { limits: { memory: expect.any(String), pids: expect.any(Number) } } },
    });
  }
});

test('only the api has a port, on the loopback by default; only it and the puller have access to the outside', () => {
  for (const [name, { ports, networks: of }] of Object.entries(services)) {
    const reachesOut = name === 'api' || name === 'puller';
    expect(ports).toEqual(name === 'api' ? [expect.stringMatching(/^\$\{API_BIND:-127\.0\.0\.1\}:/)] : undefined);
    expect(Array.isArray(of) ? of : Object.keys(of)).toEqual(reachesOut ? ['inside', 'outside'] : ['inside']);
  }
  expect(networks.inside?.internal).toBe(true);
});

test('each worker has its own GPU, and starts only in profiles with enough GPUs', () => {
  const workers = Object.entries(services).filter(([name]) => name.startsWith('worker'));
  expect(workers.map(([, { deploy }]) => deploy.resources.reservations?.devices[0]?.device_ids)).toEqual(
    [0, 1, 2, 3, 4, 5, 6, 7].map((gpu) => [String(gpu)]),
  );
  for (const [gpu, [, { profiles }]] of workers.entries()) {
    const counts = [2, 3, 4, 5, 6, 7, 8].filter((count) => count > gpu);
    expect(profiles).toEqual(gpu === 0 ? undefined : counts.map((count) => `gpus-${count}`));
  }
});

test('only the puller may write to the models folder, and only it has the token of the hub', () => {
  for (const [name, { volumes = [], environment }] of Object.entries(services)) {
    const models = volumes.filter((volume) => typeof volume !== 'string' && volume.target === '/models');
    expect([name, models.map((volume) => (volume as { read_only?: boolean }).read_only)]).toEqual([
      name,
      name === 'redis' ? [] : [name !== 'puller'],
    ]);
    if (name !== 'redis')
      expect([name, environment?.HF_TOKEN]).toEqual([
        name,
        name === 'puller' ? expect.stringContaining('HF_TOKEN:-') : '',
      ]);
  }
});

test('Redis persists jobs and never evicts them', () => {
  const { command } = services.redis as unknown as { command: string[] };
  expect(command.join(' ')).toMatch(/--appendonly yes .*--maxmemory-policy noeviction/);
});

test('the memory limit of the api covers a planning thread at its maximum, and the process limit covers the engine on a large host', () => {
  const { api, worker } = services;
  const apiGigabytes = /:-(\d+)g\}$/.exec(api?.deploy.resources.limits.memory ?? '')?.[1];
  expect(Number(apiGigabytes) * 1024).toBeGreaterThanOrEqual(MAX_HEAP_MB + 1024);
  expect(worker?.deploy.resources.limits.pids).toBeGreaterThan(2 * 1024);
});

test('every built service is a target of the Dockerfile, with an unprivileged user and a health check', () => {
  const targets = [
    ...Object.values(services).flatMap(({ build }) => build?.target ?? []),
    'worker-cpu',
    'worker-gpu-tensorflow',
  ];
  for (const target of new Set(targets)) {
    const stage = new RegExp(`^FROM \\S+ AS ${target}\\n([\\s\\S]*?)(?=^FROM |$(?![\\s\\S]))`, 'm').exec(
      dockerfile,
    )?.[1];
    expect(stage).toMatch(/^USER 1000:1000$/m);
    expect(stage).toMatch(/^HEALTHCHECK /m);
  }
});

test('every variable that is set for a service is one of its settings', () => {
  const known = new Set(
    [API_SETTINGS, REGISTRY_SETTINGS, WORKER_SETTINGS, PULLER_SETTINGS]
      .flatMap(settingsOf)
      .map(({ variable }) => variable),
  );
  const { redis: _, ...ours } = services;
  for (const { environment = {} } of Object.values(ours)) {
    const set = Object.entries(environment).flatMap(([variable, value]) => (value === '' ? [] : variable));
    expect(set.filter((variable) => !known.has(variable))).toEqual([]);
  }
});

test('.env.example names every variable of the compose files with its default', async () => {
  const overlays = (await readdir(path.join(ROOT, 'docker'))).filter((name) => name.endsWith('.yml'));
  const texts = await Promise.all(overlays.map((name) => readFile(path.join(ROOT, 'docker', name), 'utf8')));
  const example = await readFile(path.join(ROOT, '.env.example'), 'utf8');
  const shown = new Map([...example.matchAll(/^#?([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]));
  // The address of Redis has its password, if there is one.
  // biome-ignore lint/suspicious/noTemplateCurlyInString: Compose's own form
  const withoutPassword = [text, ...texts].join('').replaceAll('${REDIS_PASSWORD:+:${REDIS_PASSWORD:-}@}', '');
  const used = [...withoutPassword.matchAll(/\$\{([A-Z_]+):-([^}]*)\}/g)].filter(
    ([, name]) => name !== 'LORASMITH_REVISION',
  );
  const needed = [...texts.join('').matchAll(/\$\{([A-Z_]+):\?/g)].map(([, name]) => name);
  expect(used.length).toBeGreaterThan(10);
  for (const [, name, value] of used) {
    expect([name, shown.get(name)]).toEqual([name, value?.replace('/dev/null', '')]);
  }
  for (const name of needed) expect([...shown.keys()], 'required variables').toContain(name);
});

test('all workers share a network alias for Prometheus, and serve metrics on all interfaces', async () => {
  const workers = Object.entries(services).filter(([name]) => name.startsWith('worker'));
  for (const [, { networks: of, environment }] of workers) {
    expect(of).toEqual({ inside: { aliases: ['workers'] } });
    expect(environment).toMatchObject({ WORKER_HEALTH_HOST: '0.0.0.0', WORKER_HEALTH_PORT: '8082' });
  }
  const config = parse(await readFile(path.join(ROOT, 'docker/monitoring/prometheus.yml'), 'utf8'));
  expect(config.scrape_configs.at(-1).dns_sd_configs[0]).toMatchObject({ names: ['workers'], port: 8082 });
});

const CPU = ['-f', 'docker/compose.cpu.yml'];
const TENSORFLOW = ['-f', 'docker/compose.tensorflow.yml'];
const MONITORING = ['-f', 'docker/compose.monitoring.yml'];
test.skipIf(!hasCompose).each([[[]], [CPU], [TENSORFLOW], [MONITORING], [[...CPU, ...MONITORING]]])(
  'Compose accepts them (with %j)',
  (more) => {
    const args = [
      'compose',
      '--env-file',
      '.env.example',
      '-f',
      'docker-compose.yml',
      ...more,
      'config',
      '--format',
      'json',
    ];
    const { status, stdout, stderr } = spawnSync('docker', args, {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, GRAFANA_PASSWORD: 'a-password' },
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const { worker } = JSON.parse(stdout).services;
    const onCpu = more.includes('docker/compose.cpu.yml');
    const gpuImage = more.includes('docker/compose.tensorflow.yml') ? 'worker-gpu-tensorflow' : 'worker-gpu';
    expect(worker.build.target).toBe(onCpu ? 'worker-cpu' : gpuImage);
    expect(worker.deploy.resources.reservations?.devices === undefined).toBe(onCpu);
  },
);

interface Configured {
  command: string[] | null;
  depends_on?: Record<string, unknown>;
  environment?: Record<string, string>;
  networks: Record<string, unknown>;
  ports?: { host_ip: string; published: string; target: number }[];
  secrets?: { source: string; target: string }[];
  volumes: { source: string; target: string }[];
}
interface Project {
  services: Record<string, Configured>;
  secrets: Record<string, { file: string }>;
}

/** The configuration that Compose derives from the files, with only the given environment variables. */
function configured(files: string[], environment: NodeJS.ProcessEnv, folder = ROOT): { stderr: string } & Project {
  const named = ['docker-compose.yml', ...files].flatMap((file) => ['-f', path.join(ROOT, file)]);
  const args = ['compose', '--project-directory', folder, ...named, 'config', '--format', 'json'];
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...environment };
  const { stdout, stderr } = spawnSync('docker', args, { cwd: ROOT, encoding: 'utf8', env });
  return { stderr, ...(stdout === '' ? { services: {}, secrets: {} } : JSON.parse(stdout)) };
}
const S3 = 'docker/compose.s3.yml';

test.skipIf(!hasCompose)(
  "every worker gets the image with TensorFlow's GPU build, and the engine of .env",
  async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-env-'));
    await writeFile(path.join(folder, '.env'), 'GPU_ENGINE=tensorflow\n');
    const { stderr, services } = configured(
      ['docker/compose.tensorflow.yml'],
      { COMPOSE_PROFILES: 'gpus-8', LORASMITH_TAG: 'v1' },
      folder,
    );
    await rm(folder, { recursive: true });
    expect(stderr).toBe('');
    const workers = Object.entries(services).filter(([name]) => name.startsWith('worker'));
    expect(workers).toHaveLength(8);
    for (const [, worker] of workers) {
      expect(worker).toMatchObject({
        image: 'lorasmith-worker-gpu-tensorflow:v1',
        build: { target: 'worker-gpu-tensorflow' },
        environment: { GPU_ENGINE: 'tensorflow', DEVICE: 'gpu' },
        deploy: { resources: { reservations: { devices: [{ driver: 'nvidia' }] } } },
      });
    }
  },
);

test.skipIf(!hasCompose)(
  "an external Redis replaces the stack's own: no service waits for the stack's Redis, and all can reach the external one",
  () => {
    const files = ['docker/compose.external-redis.yml'];
    const REDIS_URL = 'rediss://user:secret@redis.example:6380';
    const { stderr, services, secrets } = configured(files, {
      REDIS_URL,
      REDIS_CA_FILE: './redis-ca.pem',
      COMPOSE_PROFILES: 'gpus-8',
    });
    expect(stderr).toBe('');
    expect(Object.keys(services)).toHaveLength(11);
    expect(services.redis).toBeUndefined();
    expect(secrets['redis-ca']?.file).toBe(path.join(ROOT, 'redis-ca.pem'));
    for (const [name, { depends_on, environment, networks, ...service }] of Object.entries(services)) {
      expect(Object.keys(depends_on ?? {})).toEqual(name === 'api' ? ['registry'] : []);
      if (name === 'registry') {
        // It uses no Redis.
        expect(environment).toMatchObject({ REDIS_URL: '', REDIS_CA_FILE: '' });
        expect(service.secrets ?? []).toEqual([]);
        expect(Object.keys(networks)).toEqual(['inside']);
        continue;
      }
      expect(environment).toMatchObject({ REDIS_URL, REDIS_CA_FILE: '/run/secrets/redis-ca' });
      expect(service.secrets).toMatchObject([{ source: 'redis-ca', target: '/run/secrets/redis-ca' }]);
      expect(Object.keys(networks)).toEqual(['inside', 'outside']);
    }
    expect(configured(files, {}).stderr).toContain('REDIS_URL');
    const own = configured([], {});
    expect(own.services.worker?.environment).toMatchObject({ REDIS_URL: 'redis://redis:6379', REDIS_CA_FILE: '' });
  },
);

test.skipIf(!hasCompose)(
  'the first of several hosts opens its Redis with TLS and a password, and its own services use the password',
  () => {
    const files = [S3, 'docker/compose.several-hosts.yml'];
    const settings = {
      S3_BUCKET: 'a-bucket',
      SERVICE_SECRET: 'a-secret',
      REDIS_PASSWORD: 'a-password',
      REDIS_BIND: '10.0.0.1',
    };
    const { stderr, services } = configured(files, { ...settings, COMPOSE_PROFILES: 'gpus-8' });
    expect(stderr).toBe('');
    const { redis, registry, ...clients } = services;
    const before = configured([], { REDIS_PASSWORD: 'a-password' }).services.redis?.command ?? [];
    expect(before.slice(-2)).toEqual(['--requirepass', 'a-password']);
    expect(redis?.command?.slice(0, before.length)).toEqual(before);
    expect(redis?.command?.slice(before.length, before.length + 2)).toEqual(['--tls-port', '6380']);
    expect(redis?.ports).toMatchObject([{ host_ip: '10.0.0.1', published: '6380', target: 6380 }]);
    expect(Object.keys(clients)).toHaveLength(10);
    for (const { environment } of Object.values(clients)) {
      expect(environment).toMatchObject({ REDIS_URL: 'redis://:a-password@redis:6379', REDIS_PASSWORD: '' });
    }
    expect(JSON.stringify(registry)).not.toContain('a-password');
    for (const name of ['REDIS_PASSWORD', 'REDIS_BIND']) {
      expect(configured(files, { ...settings, [name]: '' }).stderr).toContain(name);
    }
  },
);

test.skipIf(!hasCompose)('the services receive the variables of .env, except the passwords of others', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-env-'));
  await writeFile(
    path.join(folder, '.env'),
    'LOG_LEVEL=debug\nGRAFANA_PASSWORD=a-password\nREDIS_PASSWORD=another\nSERVICE_SECRET=a-secret\nHF_TOKEN=hf_token\n',
  );
  const { services } = configured(['docker/compose.monitoring.yml'], {}, folder);
  await rm(folder, { recursive: true });
  for (const name of ['api', 'registry', 'worker', 'puller']) {
    expect(services[name]?.environment).toMatchObject({ LOG_LEVEL: 'debug' });
    expect(JSON.stringify(services[name])).not.toMatch(/a-password/);
    // Redis' is a part of its address.
    expect(services[name]?.environment).toMatchObject({
      REDIS_PASSWORD: '',
      REDIS_URL: name === 'registry' ? '' : 'redis://:another@redis:6379',
      SERVICE_SECRET: ['api', 'registry'].includes(name) ? 'a-secret' : '',
    });
    expect(services[name]?.environment?.HF_TOKEN).toBe(name === 'puller' ? 'hf_token' : '');
  }
  expect(services.grafana?.environment).toMatchObject({ GF_SECURITY_ADMIN_PASSWORD: 'a-password' });
});

test.skipIf(!hasCompose)('with S3 every service has its own volume, and no folder of base models', () => {
  const files = [S3, 'docker/compose.cpu.yml'];
  const { stderr, services } = configured(files, { S3_BUCKET: 'a-bucket', COMPOSE_PROFILES: 'gpus-8' });
  expect(stderr).toBe('');
  const { redis: _, ...ours } = services;
  expect(Object.keys(ours)).toHaveLength(11);
  for (const [name, { volumes, environment, ...service }] of Object.entries(ours)) {
    expect(volumes).toMatchObject([{ source: name, target: '/data' }]);
    expect(volumes).toHaveLength(1);
    expect(environment).toMatchObject({ STORE: 's3', S3_BUCKET: 'a-bucket' });
    expect(service).toMatchObject({ networks: { outside: null } });
  }
  expect(configured(files, { S3_BUCKET: '' }).stderr).toContain('S3_BUCKET');
});

test('the stage that compiles the fused ops has every header that they share with other packages', async () => {
  const stage = /FROM build-packages AS addons\n([\s\S]*?)\n(?=FROM )/.exec(dockerfile)?.[1] ?? '';
  const patterns = [...stage.matchAll(/^COPY (packages\/\S+) /gm)].map((match) => match[1]!);
  const copies = (file: string) =>
    patterns.some((copied) => {
      const ofFolder =
        copied.endsWith('/*.h') && path.extname(file) === '.h' && path.dirname(file) === path.dirname(copied);
      return copied === file || file.startsWith(`${copied}/`) || ofFolder;
    });
  const native = 'packages/tensor/native';
  const sources = (await readdir(path.join(ROOT, native), { recursive: true })).filter((name) =>
    /\.(h|cc)$/.test(name),
  );
  const shared = (
    await Promise.all(
      sources.map(async (name) => {
        const source = await readFile(path.join(ROOT, native, name), 'utf8');
        return [...source.matchAll(/^#include "(\.\.\/.*)"/gm)].map((match) => path.join(native, match[1]!));
      }),
    )
  ).flat();
  expect(shared.length).toBeGreaterThan(0);
  expect(shared.filter((file) => !copies(file))).toEqual([]);
});
