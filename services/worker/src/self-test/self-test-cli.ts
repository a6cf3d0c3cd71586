import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { NO_GPU_EXIT_CODE } from '@lorasmith/child-processes';
import { createLogger } from '@lorasmith/service-kit';
import { writeFileAtomic } from '@lorasmith/storage';
import { cudaInstallation } from '@lorasmith/training/cuda-installation';
import { cardOf, engineEnvironment } from '../device/choose-engine.js';
import { cudaFaults } from '../device/gpu-faults.js';
import { gpuDeviceFiles, lookAtDriver } from '../device/gpu-probes.js';
import { SelfTestError } from './compute-part.js';
import type { CaseVerdict } from './judge-engine.js';
import { runSelfTest } from './run-self-test.js';
import { storeSelfTest } from './stored-self-test.js';

// The self-test of a worker as a command, for a look at a card without a worker: self-test-cli --out FILE [--sizes small]
// [--data-dir DIR]. FILE has each case as soon as it is judged, and at the end `kernels` and `avoided`, the kernels that the engine
// is trusted with: chooseKernels(kernels, { avoid: avoided }). DIR is that of a worker, which then does not repeat the test.

const { values } = parseArgs({
  options: { out: { type: 'string' }, sizes: { type: 'string', default: 'full' }, 'data-dir': { type: 'string' } },
});
const { out, sizes, 'data-dir': dataDir } = values;
if (out === undefined || (sizes !== 'small' && sizes !== 'full')) {
  process.stderr.write('Usage: self-test-cli --out FILE [--sizes small|full] [--data-dir DIR]\n');
  process.exit(2);
}
const log = createLogger({ service: 'worker', level: 'info' });
const programIn = (name: string) => fileURLToPath(new URL(`../${name}.js`, import.meta.url));
const environment = engineEnvironment('cuda', process.env);

const installation = cudaInstallation(process.env.CUDA_KERNEL_DIR);
const driver =
  installation === null
    ? null
    : await lookAtDriver(programIn('device/gpu-probes-main'), installation, environment).catch((error: Error) => error);
const { CUDA_VISIBLE_DEVICES: visibleDevices } = process.env;
const faults = cudaFaults({ installation, driver, deviceFiles: await gpuDeviceFiles(), visibleDevices });
const card = cardOf(driver);
const cases: (CaseVerdict & { seconds: number })[] = [];
const startMs = performance.now();
const seconds = () => (performance.now() - startMs) / 1000;
const write = (changes: object) =>
  writeFileAtomic(out, `${JSON.stringify({ engine: 'cuda', card, faults, cases, ...changes }, null, 2)}\n`);

await write({ done: false });
if (faults.length > 0 || card === null || installation === null) {
  log.error({ faults }, 'the CUDA engine cannot be tested');
  await write({ done: true, trusted: false });
  process.exit(NO_GPU_EXIT_CODE);
}
let writing: Promise<void> = Promise.resolve();
const result = await runSelfTest({
  program: programIn('self-test/self-test-main'),
  environments: { card: environment, cpu: engineEnvironment('cpu', process.env) },
  sizes,
  onLine: (line) => log.info({ from: 'self-test' }, line),
  onVerdict(verdict) {
    cases.push({ ...verdict, seconds: seconds() });
    writing = writing.then(() => write({ done: false }));
  },
}).catch(async (error: unknown) => {
  if (!(error instanceof SelfTestError)) throw error;
  log.error({ card, reason: error.message }, 'the engine could not be tested');
  await writing;
  await write({ done: false, trusted: false, error: error.message });
  process.exit(NO_GPU_EXIT_CODE);
});
await writing;
const trusted = result.distrust === null;
const { kernels, avoided_kernels: avoided } = result;
await write({ done: true, trusted, kernels, avoided, seconds: result.seconds, self_test: result });
if (dataDir !== undefined) await storeSelfTest(dataDir, { card, installation, environment }, sizes, result);
const level =
  kernels === 'raw' ? 'with plain ops only' : avoided.length > 0 ? `without ${avoided.join(', ')}` : 'with all kernels';
log.info({ card, self_test: result }, trusted ? `the engine is trusted ${level}` : 'the engine is not trusted');
process.exit(trusted ? 0 : NO_GPU_EXIT_CODE);
