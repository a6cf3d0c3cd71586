import { measureMachine, useFusedOps } from '@lorasmith/training';
import { endWithoutGpu } from './end-without-gpu.js';

// Runs once, in a process of its own that gives all its memory back.
endWithoutGpu();
useFusedOps();
const profile = await measureMachine();
// The worker may be gone by now.
process.send?.(profile, undefined, {}, () => process.connected && process.disconnect());
