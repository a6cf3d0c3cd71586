// npm run docs: writes the parts of the documentation that come from the code. A test fails while they differ.

import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ERRORS } from '../packages/contracts/dist/index.js';
import * as modelFolder from '../packages/model-folder/dist/index.js';
import * as planning from '../packages/planning/dist/index.js';
import * as serviceKit from '../packages/service-kit/dist/index.js';
import { PULLER_SETTINGS } from '../services/api/dist/puller-settings.js';
import { API_SETTINGS } from '../services/api/dist/settings.js';
import { REGISTRY_SETTINGS } from '../services/registry/dist/config.js';
import { WORKER_SETTINGS } from '../services/worker/dist/settings.js';
import { valuesSchema } from './chart/values-schema.mjs';
import { compactJson } from './docs/compact-json.mjs';
import { configurationPage } from './docs/configuration-page.mjs';
import { limitsPage, limitVariables, loadLimits } from './docs/limits-page.mjs';
import { differenceTable, familyTable, loadCases } from './docs/loader-tables.mjs';
import { cardTable } from './docs/model-on-card.mjs';
import { errorTable, readRooms, roomsPicture, withPart } from './docs/written-parts.mjs';
import { ROOT_DIR } from './setup/locations.mjs';

const configurationFile = path.join(ROOT_DIR, 'docs/configuration.md');
const limitsFile = path.join(ROOT_DIR, 'docs/limits.md');

const services = { api: API_SETTINGS, worker: WORKER_SETTINGS, registry: REGISTRY_SETTINGS, puller: PULLER_SETTINGS };
const chart = path.join(ROOT_DIR, 'docker/helm/lorasmith');
await writeFile(path.join(chart, 'values.schema.json'), `${compactJson(valuesSchema(services, serviceKit))}\n`);
const limits = await loadLimits((file) => import(`../${file.replace('/SRC/', '/dist/')}`));
await writeFile(limitsFile, limitsPage(services, serviceKit, limits));
await writeFile(configurationFile, configurationPage(services, limitVariables(limits), serviceKit));
const cases = await loadCases();
const parts = /** @type {const} */ ([
  ['docs/architecture.md', 'rooms', roomsPicture(await readRooms())],
  ['docs/api.md', 'errors', errorTable(ERRORS)],
  ['docs/base-models.md', 'families', familyTable(cases, modelFolder.FAMILIES)],
  ['docs/base-models.md', 'cards', cardTable(modelFolder, planning)],
  ['docs/using-adapters.md', 'loaders', differenceTable(cases)],
]);
for (const [name, part, text] of parts) {
  const file = path.join(ROOT_DIR, name);
  await writeFile(file, withPart(await readFile(file, 'utf8'), part, text));
}
process.stdout.write(
  `${configurationFile}\n${limitsFile}\n${path.join(chart, 'values.schema.json')}\n${parts.map(([name]) => path.join(ROOT_DIR, name)).join('\n')}\n`,
);
