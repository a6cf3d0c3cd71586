import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  createHttpApp,
  createLogger,
  createMetrics,
  observeFolders,
  observeHttp,
  observeRedis,
} from '../packages/service-kit/src/index.js';
import { createApiMetrics } from '../services/api/src/api-metrics.js';
import { countDownloads, countMerges, observeMergedModels } from '../services/registry/src/registry-metrics.js';
import { createGenerationMetrics, createWorkerMetrics, observeMachine } from '../services/worker/src/worker-metrics.js';
import { checkMonitoring, dashboardQueries, findPromtool } from './checks/check-alerts.mjs';

// The dashboard and the alerts must query only metrics that the services export. promtool checks their syntax if it is
// installed.

const ROOT = new URL('../', import.meta.url);
const promtool = findPromtool(process.env);
if (promtool === null) {
  console.log('Skipped, since promtool is not installed: its check of docker/monitoring (npm run check-alerts).');
}

interface Rule {
  alert: string;
  expr: string;
  annotations: { summary: string };
}
const alertRules = async (): Promise<Rule[]> =>
  parse(await readFile(new URL('docker/monitoring/alerts.yml', ROOT), 'utf8')).groups.flatMap(
    ({ rules }: { rules: Rule[] }) => rules,
  );

/** Names of all series that the services export, without those that a scrape adds. */
async function servedSeries(): Promise<Set<string>> {
  // These are never used: only the names of the metrics are read.
  const redis = { status: 'end', info: async () => '' } as never;
  const api = createApiMetrics({
    jobs: {
      queueStatus: () => Promise.reject(new Error()),
      queue: { work: () => Promise.reject(new Error()) },
      deliveries: { count: () => Promise.reject(new Error()), endedCounts: () => Promise.reject(new Error()) },
    },
    generation: { waiting: () => Promise.reject(new Error()) },
    redis,
    dataDir: '.',
    workerClasses: { classes: [{ name: 'a10g', memory: 1 }], secondsPerWorker: 1 },
  });
  observeHttp(createHttpApp({ logger: createLogger({ service: 'test', level: 'silent' }) }), api);
  const registry = createMetrics({ service: 'registry' });
  countMerges(registry);
  countDownloads(registry);
  observeMergedModels(registry, { usage: () => ({ models: 0, bytes: 0, limitBytes: 0, merging: 0 }) });
  const worker = createMetrics({ service: 'worker' });
  createWorkerMetrics(worker);
  createGenerationMetrics(worker);
  const card = { name: 'A10G', uuid: 'GPU-1', compute_capability: '8.6', driver: '550.54.15', memory_bytes: 1 };
  const tested = {
    tested_at: '2026-11-26T00:00:00Z',
    seconds: 9,
    cases: 2,
    failed: [],
    kernels: 'fused' as const,
    distrust: null,
  };
  const engine = { kind: 'cuda' as const, card, self_test: { ...tested, avoided_kernels: ['rmsNorm:bfloat16'] } };
  observeMachine(worker, { workerName: 'w', engine, trainerPid: () => undefined });
  observeFolders(worker, {});
  observeRedis(worker, redis);
  const metrics = [api, registry, worker].flatMap((one) => one.getMetricsAsArray());
  return new Set(
    metrics.flatMap(({ name, type }) =>
      // The library uses names of types, its declarations use numbers.
      String(type) === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
}

const seriesIn = (expression: string) => expression.match(/\b(lorasmith|process|nodejs)_[a-z0-9_]+\b/g) ?? [];

test('the dashboard and the alerts query only series that a service exports', async () => {
  const served = await servedSeries();
  const asked = [
    ...(await dashboardQueries()).map(({ expression }) => expression),
    ...(await alertRules()).map(({ expr }) => expr),
  ].flatMap(seriesIn);
  expect(asked.length).toBeGreaterThan(50);
  expect([...new Set(asked.filter((name) => !served.has(name)))]).toEqual([]);
  // And vice versa: a series that nothing queries need not be exported.
  const unseen = [...served].filter((name) => name.startsWith('lorasmith_') && !/_(sum|count|bucket)$/.test(name));
  expect(unseen.filter((name) => !asked.includes(name))).toEqual([
    'lorasmith_build_info',
    'lorasmith_worker_class_jobs',
    'lorasmith_worker_class_tokens',
    'lorasmith_worker_class_seconds',
    'lorasmith_merged_models',
    'lorasmith_checkpoints_total',
    'lorasmith_engine_info',
    'lorasmith_avoided_kernel_info',
  ]);
});

test('docs/operations.md explains every alert', async () => {
  const text = await readFile(new URL('docs/operations.md', ROOT), 'utf8');
  expect((await alertRules()).map(({ alert }) => alert).filter((alert) => !text.includes(`\`${alert}\``))).toEqual([]);
});

test('every alert is tested', async () => {
  const { tests } = parse(await readFile(new URL('docker/monitoring/alerts.test.yml', ROOT), 'utf8'));
  const names = (n: number) => tests[n].alert_rule_test.map(({ alertname }: { alertname: string }) => alertname).sort();
  const alerts = (await alertRules()).map(({ alert }) => alert).sort();
  expect([names(0), names(1)]).toEqual([alerts, alerts]);
});

test.skipIf(promtool === null)(
  'promtool accepts the configuration, the alerts, their tests and the queries of the dashboard',
  async () => {
    for (const { name, passed, output } of await checkMonitoring(promtool!))
      expect([name, passed, output]).toEqual([name, true, output]);
  },
);
