// node test/write-machine-profile.mjs DATA_DIR [--measure]: stores a profile of this machine under the name for which a worker
// looks. Without --measure, which takes 15 seconds of processor time, machine-probe.mjs makes it up.
import { fileURLToPath } from 'node:url';
import { createLogger } from '../packages/service-kit/dist/index.js';
import { cpuEngine } from '../services/worker/dist/device/choose-engine.js';
import { profileMachine } from '../services/worker/dist/machine-profile.js';

const [, , dataDir = '', ...options] = process.argv;
const probe = options.includes('--measure') ? '../services/worker/dist/trainer/probe-main.js' : 'machine-probe.mjs';
await profileMachine({
  dataDir,
  workerName: 'a-worker',
  engine: cpuEngine(process.env),
  probeProgram: fileURLToPath(new URL(probe, import.meta.url)),
  log: createLogger({ service: 'worker', level: 'error' }),
});
