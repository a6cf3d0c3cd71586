import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { ERRORS } from '../packages/contracts/src/index.js';
import * as modelFolder from '../packages/model-folder/src/index.js';
import * as planning from '../packages/planning/src/index.js';
import * as serviceKit from '../packages/service-kit/src/index.js';
import { configurationPage } from '../scripts/docs/configuration-page.mjs';
import { limitsPage, limitVariables, loadLimits } from '../scripts/docs/limits-page.mjs';
import { differenceTable, familyTable, loadCases } from '../scripts/docs/loader-tables.mjs';
import { cardTable } from '../scripts/docs/model-on-card.mjs';
import { errorTable, readRooms, roomsPicture, withPart } from '../scripts/docs/written-parts.mjs';
import { DEMO_MODEL_NAME } from '../scripts/setup/demo-model.mjs';
import { PULLER_SETTINGS } from '../services/api/src/puller-settings.js';
import { API_SETTINGS } from '../services/api/src/settings.js';
import { REGISTRY_SETTINGS } from '../services/registry/src/config.js';
import { WORKER_SETTINGS } from '../services/worker/src/settings.js';
import { HAS_ALL_CASES } from './usual-cases.js';

const services = {
  api: API_SETTINGS,
  worker: WORKER_SETTINGS,
  registry: REGISTRY_SETTINGS,
  puller: PULLER_SETTINGS,
};
const ROOT = new URL('../', import.meta.url);
const limits = await loadLimits((file) => import(/* @vite-ignore */ `../${file.replace('/SRC/', '/src/')}`));
const page = (name: string) => readFile(new URL(name, ROOT), 'utf8');

describe('generated parts of the documentation (by "npm run docs")', () => {
  test('docs/configuration.md lists the settings of the services', async () => {
    expect(await page('docs/configuration.md')).toBe(configurationPage(services, limitVariables(limits), serviceKit));
  });

  test('docs/limits.md lists the limits of the settings and the code', async () => {
    expect(await page('docs/limits.md')).toBe(limitsPage(services, serviceKit, limits));
  });

  test('docs/architecture.md shows the rooms as they are', async () => {
    const text = await page('docs/architecture.md');
    expect(text).toBe(withPart(text, 'rooms', roomsPicture(await readRooms())));
  });

  test('docs/api.md lists every error code with its status', async () => {
    const text = await page('docs/api.md');
    expect(text).toBe(withPart(text, 'errors', errorTable(ERRORS)));
  });

  test.runIf(HAS_ALL_CASES)('docs/base-models.md shows which model fits which card by the estimate', async () => {
    const text = await page('docs/base-models.md');
    expect(text).toBe(withPart(text, 'cards', cardTable(modelFolder, planning)));
  });

  test('docs/base-models.md and docs/using-adapters.md show what check-loaders recorded', async () => {
    const cases = await loadCases();
    const models = await page('docs/base-models.md');
    expect(models).toBe(withPart(models, 'families', familyTable(cases, modelFolder.FAMILIES)));
    const adapters = await page('docs/using-adapters.md');
    expect(adapters).toBe(withPart(adapters, 'loaders', differenceTable(cases)));
  });
});

describe('handwritten parts of the documentation', () => {
  test('docs/api.md lists every call of the OpenAPI document', async () => {
    const { paths } = JSON.parse(await page('openapi/openapi.json')) as { paths: Record<string, object> };
    const text = await page('docs/api.md');
    const missing = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods)
        .map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`)
        .filter((call) => !text.includes(`\`${call}\``)),
    );
    expect(missing).toEqual([]);
  });

  test('docs/decisions/README.md lists every record', async () => {
    const index = await page('docs/decisions/README.md');
    const records = (await readdir(new URL('docs/decisions', ROOT))).filter((name) => name !== 'README.md');
    expect(records.filter((name) => !index.includes(`(${name})`))).toEqual([]);
  });

  test('every decision record has a status and a date', async () => {
    const records = (await readdir(new URL('docs/decisions', ROOT))).filter((name) => name !== 'README.md');
    const texts = await Promise.all(records.map(async (name) => [name, await page(`docs/decisions/${name}`)] as const));
    const bare = texts.filter(([, text]) => !/^# .+\n\n(Accepted|Replaced by \S+), \d{4}-\d\d-\d\d\.\n/.test(text));
    expect(bare.map(([name]) => name)).toEqual([]);
  });

  test('docs/client.md pulls a model that set-up has not put there', async () => {
    const names = [...(await page('docs/client.md')).matchAll(/lora models pull [\w-]+\/([\w.-]+)/g)].map(
      ([, name]) => name,
    );
    expect(names).not.toEqual([]);
    expect(names).not.toContain(DEMO_MODEL_NAME);
  });

  test('README.md has under 200 lines', async () => {
    expect((await page('README.md')).split('\n').length).toBeLessThan(200);
  });

  test('CONTRIBUTING.md names only files that exist', async () => {
    const named = [...(await page('CONTRIBUTING.md')).matchAll(/`((?:packages|services|test|docs)\/[\w./-]+)`/g)];
    const missing: string[] = [];
    for (const [, file = ''] of named) {
      // A name in capitals stands for the new one.
      const known = file.split(/\/(?=[^/]*(?:NAME|AREA))/)[0]!;
      if ((await readFileOrFolder(new URL(known, ROOT)).catch(() => null)) === null) missing.push(file);
    }
    expect(named.length).toBeGreaterThan(20);
    expect(missing).toEqual([]);
  });

  test('all links lead to existing files and headings', async () => {
    const pages = [
      ...[
        'README.md',
        'CHANGELOG.md',
        'CONTRIBUTING.md',
        'SECURITY.md',
        'test/bench/README.md',
        'test/fixtures/README.md',
      ],
      ...(await readdir(new URL('docs', ROOT), { recursive: true })).map((name) => `docs/${name}`),
    ].filter((name) => name.endsWith('.md'));
    const broken: string[] = [];
    for (const name of pages) {
      for (const [, link = ''] of (await page(name)).matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
        const [target = '', heading] = link.split('#');
        const url = new URL(target === '' ? name : target, target === '' ? ROOT : new URL(name, ROOT));
        const text = await readFileOrFolder(url).catch(() => null);
        if (text === null || (heading !== undefined && !anchorsOf(text).has(heading))) broken.push(`${name}: ${link}`);
      }
    }
    expect(broken).toEqual([]);
  });
});

/** The anchors that GitHub derives from headings. */
function anchorsOf(markdown: string): Set<string> {
  const headings = [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, text = '']) => text.toLowerCase());
  return new Set(headings.map((text) => text.replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-')));
}

async function readFileOrFolder(url: URL): Promise<string> {
  return await readFile(url, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EISDIR') return '';
    throw error;
  });
}
