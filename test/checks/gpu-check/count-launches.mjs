// Preloaded into every process of a part (NODE_OPTIONS=--import), it writes how often each kernel was launched by this process to
// LAUNCHES_DIR/PID.json: while it runs, since it may be killed, and when it exits.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const EVERY_MS = 1_000;

const folder = process.env.LAUNCHES_DIR;
const { cache } = createRequire(import.meta.url);

if (folder !== undefined) {
  process.on('exit', write);
  setInterval(write, EVERY_MS).unref();
}

function write() {
  const counts = countsHere();
  if (counts === null) return;
  const file = path.join(/** @type {string} */ (folder), `${process.pid}.json`);
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(`${file}.partial`, JSON.stringify(counts));
    renameSync(`${file}.partial`, file);
  } catch (error) {
    process.stderr.write(`the launches of process ${process.pid} are not counted: ${error}\n`);
  }
}

/** The launches of the engine in this process, by kernel; null where it has none. @returns {Record<string, number> | null} */
function countsHere() {
  const name = Object.keys(cache).find((file) => path.basename(file) === 'cuda.node');
  if (name === undefined) return null;
  try {
    return cache[name]?.exports.statistics().kernels;
  } catch {
    // The addon only described the driver.
    return null;
  }
}
