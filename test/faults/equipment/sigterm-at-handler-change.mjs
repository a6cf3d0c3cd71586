// Test equipment, loaded into a program with `node --import`: the program receives a SIGTERM right before it removes a handler for SIGTERM.
import { execFileSync } from 'node:child_process';

const off = process.off.bind(process);
process.off = (name, listener) => {
  if (name === 'SIGTERM') execFileSync('kill', ['-TERM', String(process.pid)]);
  return off(name, listener);
};
