import { readdir, readFile, realpath } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import * as serviceKit from '../packages/service-kit/src/index.js';
import { OWN_VARIABLES, valuesSchema } from '../scripts/chart/values-schema.mjs';
import { PULLER_SETTINGS } from '../services/api/src/puller-settings.js';
import { API_SETTINGS } from '../services/api/src/settings.js';
import { REGISTRY_SETTINGS } from '../services/registry/src/config.js';
import { WORKER_SETTINGS } from '../services/worker/src/settings.js';
import { wrongValues } from './checks/helm-chart/wrong-values.mjs';

// The rules for docker/helm/lorasmith that need no Helm. `npm run helm-chart` renders it, and has a Kubernetes check it.

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CHART = path.join(ROOT, 'docker/helm/lorasmith');
const services = { api: API_SETTINGS, worker: WORKER_SETTINGS, registry: REGISTRY_SETTINGS, puller: PULLER_SETTINGS };
const variables = new Set(
  Object.values(services).flatMap((tree) => serviceKit.settingsOf(tree).map(({ variable }) => variable)),
);
/** Variables of the pods that belong to others: Redis' own program, the SDK of the bucket, and the test pod. */
const FOREIGN = ['REDISCLI_AUTH', 'REDIS_PASSWORD', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];

interface Schema {
  type?: string;
  description?: string;
  properties?: Record<string, Schema>;
}
type Values = Record<string, unknown>;

const read = (name: string) => readFile(path.join(CHART, name), 'utf8');
async function templates(): Promise<string> {
  const names = (await readdir(path.join(CHART, 'templates'), { recursive: true })).filter((name) =>
    /\.(yaml|tpl)$/.test(name),
  );
  return (await Promise.all(names.map((name) => read(`templates/${name}`)))).join('\n');
}

test('values.schema.json is what "npm run docs" writes from the settings of the services', async () => {
  expect(JSON.parse(await read('values.schema.json'))).toEqual(valuesSchema(services, serviceKit));
});

test('every variable that the chart sets is a setting of a service', async () => {
  const text = await templates();
  const named = [
    ...text.matchAll(/set \$own "([A-Z0-9_]+)"/g),
    ...text.matchAll(/^\s*(?:- name: )?([A-Z][A-Z0-9_]{3,})(?::|$)/gm),
    ...text.matchAll(/secretEnv" \(list "([A-Z0-9_]+)"/g),
    ...text.matchAll(/list "(AWS_[A-Z_]+)" "(AWS_[A-Z_]+)"/g),
  ].flatMap(([, ...names]) => names.filter((name) => name !== undefined));
  expect(named).toEqual(
    expect.arrayContaining(['REDIS_URL', 'DATA_DIR', 'DEVICE', 'API_HOST', 'S3_BUCKET', 'HF_TOKEN']),
  );
  const unknown = named.filter((name) => !variables.has(name) && !FOREIGN.includes(name) && !name.startsWith('TEST_'));
  expect(unknown).toEqual([]);
  expect(OWN_VARIABLES.filter((name) => !variables.has(name))).toEqual([]);
  // A setting that the chart makes itself would otherwise have two values.
  expect(named.filter((name) => variables.has(name) && !OWN_VARIABLES.includes(name))).toEqual([
    'WEBHOOK_SECRET',
    'SECRETS_KEY',
    'DELIVERY_SERVER_KEY',
    'DELIVERY_S3_ACCESS_KEY_ID',
    'DELIVERY_S3_SECRET_ACCESS_KEY',
    'HF_TOKEN',
  ]);
});

test('values.yaml has every value of the schema, and no other', async () => {
  const values = parse(await read('values.yaml')) as Values;
  const schema = valuesSchema(services, serviceKit);
  const missing: string[] = [];
  const unknown: string[] = [];
  const walk = ({ properties = {}, type, description }: Schema, value: Values, name: string) => {
    if (type !== 'object' || description !== '') return;
    unknown.push(...Object.keys(value).flatMap((key) => (key in properties ? [] : `${name}${key}`)));
    for (const [key, inner] of Object.entries(properties)) {
      if (key === 'global') continue;
      if (!(key in value)) missing.push(`${name}${key}`);
      walk(inner, (value[key] ?? {}) as Values, `${name}${key}.`);
    }
  };
  walk(schema, values, '');
  expect({ missing, unknown }).toEqual({ missing: [], unknown: [] });
  // What `npm run helm-chart` tries, so a value without a check would be noticed.
  expect(wrongValues(schema).length).toBeGreaterThan(300);
});

test('the chart has the version and the images of the product, and the alerts by a link', async () => {
  const chart = parse(await read('Chart.yaml')) as { version: string; appVersion: string };
  const { version } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };
  expect(chart).toMatchObject({ version, appVersion: version });
  const targets = [...(await readFile(path.join(ROOT, 'docker/Dockerfile'), 'utf8')).matchAll(/ AS (\S+)$/gm)].map(
    ([, target]) => target,
  );
  const { workers } = valuesSchema(services, serviceKit).properties;
  expect(targets).toEqual(expect.arrayContaining(['api', 'registry', ...workers.items.properties.image.enum]));
  expect(await realpath(path.join(CHART, 'files/alerts.yml'))).toBe(
    path.join(await realpath(ROOT), 'docker/monitoring/alerts.yml'),
  );
});
