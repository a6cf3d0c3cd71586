import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { settingsOf } from '../packages/service-kit/src/index.js';
import { API_SETTINGS } from '../services/api/src/settings.js';
import { REGISTRY_SETTINGS } from '../services/registry/src/config.js';
import { WORKER_SETTINGS } from '../services/worker/src/settings.js';

// What every compose file must keep to, read as YAML: that needs no Docker. Whether Compose takes them is asked of
// Compose itself where it is installed. scripts/compose-smoke.mjs runs them.

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

test('every service is restarted, bounded, and may do no more than it needs', () => {
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

test('the api alone has a port, on the loopback by default, and a network that reaches outside', () => {
  for (const [name, { ports, networks: of }] of Object.entries(services)) {
    expect(ports).toEqual(name === 'api' ? [expect.stringMatching(/^\$\{API_BIND:-127\.0\.0\.1\}:/)] : undefined);
    expect(Array.isArray(of) ? of : Object.keys(of)).toEqual(name === 'api' ? ['inside', 'outside'] : ['inside']);
  }
  expect(networks.inside?.internal).toBe(true);
});

test('each worker has one GPU of its own, and runs from as many GPUs on as it has to', () => {
  const workers = Object.entries(services).filter(([name]) => name.startsWith('worker'));
  expect(workers.map(([, { deploy }]) => deploy.resources.reservations?.devices[0]?.device_ids)).toEqual(
    [0, 1, 2, 3, 4, 5, 6, 7].map((gpu) => [String(gpu)]),
  );
  for (const [gpu, [, { profiles }]] of workers.entries()) {
    const counts = [2, 3, 4, 5, 6, 7, 8].filter((count) => count > gpu);
    expect(profiles).toEqual(gpu === 0 ? undefined : counts.map((count) => `gpus-${count}`));
  }
});

test('Redis keeps every job', () => {
  const { command } = services.redis as unknown as { command: string[] };
  expect(command.join(' ')).toMatch(/--appendonly yes .*--maxmemory-policy noeviction/);
});

test('what is built is a target of the Dockerfile, with a user that is not root and a health check', () => {
  const targets = [...Object.values(services).flatMap(({ build }) => build?.target ?? []), 'worker-cpu'];
  for (const target of new Set(targets)) {
    const stage = new RegExp(`^FROM \\S+ AS ${target}\\n([\\s\\S]*?)(?=^FROM |$(?![\\s\\S]))`, 'm').exec(
      dockerfile,
    )?.[1];
    expect(stage).toMatch(/^USER 1000:1000$/m);
    expect(stage).toMatch(/^HEALTHCHECK /m);
  }
});

test('the services know every variable that is set for them', () => {
  const known = new Set(
    [API_SETTINGS, REGISTRY_SETTINGS, WORKER_SETTINGS].flatMap(settingsOf).map(({ variable }) => variable),
  );
  for (const { environment = {} } of Object.values(services)) {
    expect(Object.keys(environment).filter((variable) => !known.has(variable))).toEqual([]);
  }
});

test('.env.example names every variable of the compose files with its default', async () => {
  const monitoring = await readFile(path.join(ROOT, 'docker/compose.monitoring.yml'), 'utf8');
  const example = await readFile(path.join(ROOT, '.env.example'), 'utf8');
  const shown = new Map([...example.matchAll(/^#?([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]));
  const used = [...`${text}${monitoring}`.matchAll(/\$\{([A-Z_]+):-([^}]*)\}/g)].filter(
    ([, name]) => name !== 'LORASMITH_REVISION',
  );
  expect(used.length).toBeGreaterThan(10);
  for (const [, name, value] of used) expect([name, shown.get(name)]).toEqual([name, value]);
});

test('all workers have one name, by which Prometheus finds them, and listen beyond their loopback for it', async () => {
  const workers = Object.entries(services).filter(([name]) => name.startsWith('worker'));
  for (const [, { networks: of, environment }] of workers) {
    expect(of).toEqual({ inside: { aliases: ['workers'] } });
    expect(environment).toMatchObject({ WORKER_HEALTH_HOST: '0.0.0.0', WORKER_HEALTH_PORT: '8082' });
  }
  const config = parse(await readFile(path.join(ROOT, 'docker/monitoring/prometheus.yml'), 'utf8'));
  expect(config.scrape_configs.at(-1).dns_sd_configs[0]).toMatchObject({ names: ['workers'], port: 8082 });
});

const CPU = ['-f', 'docker/compose.cpu.yml'];
const MONITORING = ['-f', 'docker/compose.monitoring.yml'];
test.skipIf(!hasCompose).each([[[]], [CPU], [MONITORING], [[...CPU, ...MONITORING]]])(
  'Compose takes them (with %j)',
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
    expect(worker.build.target).toBe(onCpu ? 'worker-cpu' : 'worker-gpu');
    expect(worker.deploy.resources.reservations?.devices === undefined).toBe(onCpu);
  },
  120_000,
);

test.skipIf(!hasCompose)(
  'with S3 every service has a volume of its own, and no folder of base models',
  () => {
    const files = ['docker-compose.yml', 'docker/compose.s3.yml', 'docker/compose.cpu.yml'];
    const args = ['compose', ...files.flatMap((file) => ['-f', file]), 'config', '--format', 'json'];
    const config = (environment: NodeJS.ProcessEnv) =>
      spawnSync('docker', args, { cwd: ROOT, encoding: 'utf8', env: { ...process.env, ...environment } });
    const { stdout, stderr } = config({ S3_BUCKET: 'a-bucket', COMPOSE_PROFILES: 'gpus-8' });
    expect(stderr).toBe('');
    const all: Record<string, { volumes: { source: string; target: string }[]; environment: object }> =
      JSON.parse(stdout).services;
    const { redis: _, ...ours } = all;
    expect(Object.keys(ours)).toHaveLength(10);
    for (const [name, { volumes, environment, ...service }] of Object.entries(ours)) {
      expect(volumes).toMatchObject([{ source: name, target: '/data' }]);
      expect(volumes).toHaveLength(1);
      expect(environment).toMatchObject({ STORE: 's3', S3_BUCKET: 'a-bucket' });
      expect(service).toMatchObject({ networks: { outside: null } });
    }
    expect(config({ S3_BUCKET: '' }).stderr).toContain('S3_BUCKET');
  },
  120_000,
);
