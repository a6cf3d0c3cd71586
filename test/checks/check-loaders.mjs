// npm run check-loaders: loads what the service writes in PEFT and transformers, llama.cpp and vLLM, and compares their answers with
// its own: tiny models of each family with imported adapters, and the demo model with an adapter that is trained here. Peers come
// from PyPI into virtual environments (some gigabytes); LOADERS_DIR is where they are kept. --without vllm leaves one out, --only demo
// checks that alone, or one family. --record keeps the results of the families for the tables that npm run docs writes.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createClient } from '../../packages/client/dist/index.js';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { familyCases } from '../family-models.mjs';
import { pythonOf, Report, untilMeasured } from './check-loaders/answers.mjs';
import { checkDemo } from './check-loaders/demo-check.mjs';
import { addFamily, checkFamily } from './check-loaders/family-check.mjs';
import { addWideFamilies, checkInVllm } from './check-loaders/vllm-check.mjs';

const { values: flags } = parseArgs({
  options: {
    without: { type: 'string', multiple: true },
    only: { type: 'string', multiple: true },
    record: { type: 'boolean', default: false },
  },
});
const RESULTS = path.join(ROOT_DIR, 'test/checks/check-loaders/results.json');
const root = process.env.LOADERS_DIR ?? path.join(cacheDir(process.env), 'loaders');

await runAsCommand(async () => {
  const signal = interruption();
  const folder = await mkdtemp(path.join(tmpdir(), 'check-loaders-'));
  const report = new Report();
  try {
    await checkAll(folder, report, signal);
    if (flags.record) await record(report);
    console.log(report.failures === 0 ? '\nno failure' : `\n${report.failures} do not match`);
    return report.failures === 0 ? 0 : 1;
  } catch (error) {
    if (!signal.aborted) throw error;
    console.log('\nInterrupted.');
    return 130;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/** @param {string} folder @param {Report} report @param {AbortSignal} signal */
async function checkAll(folder, report, signal) {
  const peers = {
    transformers: await peer('transformers', report, signal),
    llama: await peer('llama', report, signal),
    vllm: await peer('vllm', report, signal),
  };
  const names = (await familyCases()).filter((name) => flags.only === undefined || flags.only.includes(name));
  const modelsDir = path.join(folder, 'models');
  const prompts = new Map();
  for (const name of names) prompts.set(name, await addFamily(name, modelsDir));
  const common = { folder, peers, report, signal };
  const wide = await addWideFamilies({ names, prompts, ...common });
  if (names.length > 0) {
    const stack = await startStack({ dataDir: path.join(folder, 'data'), modelsDir, signal });
    try {
      const client = createClient({ baseUrl: stack.apiUrl });
      await untilMeasured(client, signal);
      for (const name of names) await checkFamily({ name, client, prompts: prompts.get(name), ...common });
      await checkInVllm({ families: wide, client, ...common });
    } finally {
      await stack.stop();
    }
  }
  if (flags.only !== undefined && !flags.only.includes('demo')) return;
  const demo = await startStack({
    dataDir: path.join(folder, 'demo-data'),
    modelsDir: path.join(ROOT_DIR, 'models'),
    signal,
  });
  try {
    const client = createClient({ baseUrl: demo.apiUrl });
    await untilMeasured(client, signal);
    await checkDemo({ client, ...common });
  } finally {
    await demo.stop();
  }
}

/** Keeps the results of the families and peers that were checked; the others stay. @param {Report} report */
async function record({ results }) {
  const kept = JSON.parse(await readFile(RESULTS, 'utf8'));
  const peerOf = (/** @type {string} */ what) => what.split(',')[0];
  for (const name of await familyCases()) {
    const own = results[name] ?? {};
    const checked = new Set(Object.keys(own).map(peerOf));
    const others = Object.entries(kept[name] ?? {}).filter(([what]) => !checked.has(peerOf(what)));
    if (checked.size > 0) kept[name] = { ...Object.fromEntries(others), ...own };
  }
  const sorted = Object.fromEntries(Object.entries(kept).sort(([a], [b]) => (a < b ? -1 : 1)));
  await writeFile(RESULTS, `${JSON.stringify(sorted, null, 2)}\n`);
}

/**
 * A peer that cannot be installed is a failure, and the others are checked.
 * @param {import('./check-loaders/answers.mjs').Peer} name @param {Report} report @param {AbortSignal} signal
 */
async function peer(name, report, signal) {
  if (flags.without?.includes(name)) return null;
  try {
    return await pythonOf(root, name, signal);
  } catch (error) {
    signal.throwIfAborted();
    report.failure('peers', name, `FAILED: ${error instanceof Error ? error.message : error}`);
    return null;
  }
}
