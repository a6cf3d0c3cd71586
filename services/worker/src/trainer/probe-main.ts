import { measureMachine, useFusedOps } from '@lorasmith/training';

// Runs once, in a process of its own that gives all its memory back.
useFusedOps();
const profile = await measureMachine();
process.send?.(profile, undefined, {}, () => process.disconnect());
