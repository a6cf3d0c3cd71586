import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { register } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ROOT_DIR } from '../../../../scripts/setup/locations.mjs';

const PROGRAM = fileURLToPath(import.meta.url);
/** Memory that grows with the inputs ends with the process. */
const INPUTS_OF_PROCESS = 2_000;
/** The bounds that the product has for such a process, smaller. */
const HEAP_MB = 256;
const TIMEOUT_MS = 20_000;

/** The end of a process that took too much memory or time: for a reader that may do so, the input is refused. */
export class ReaderEnded extends Error {}

/** An error of a reader that counts as refused. */
export class ReaderRefused extends Error {}

/**
 * A reader whose inputs may take any time and memory: it runs in a process of its own, which reads many inputs. The coverage of each input
 * is copied into this process.
 */
export class ReaderProcess {
  /** @type {string} */
  #reader;
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #child;
  #inputs = 0;

  /** @param {string} reader its name in {@link READERS} */
  constructor(reader) {
    this.#reader = reader;
  }

  /** Starts a process where there is none for the next input. */
  async start() {
    if (this.#inputs >= INPUTS_OF_PROCESS) this.close();
    if (this.#child !== undefined) return;
    this.#child = fork(PROGRAM, [this.#reader], {
      serialization: 'advanced',
      execArgv: [`--max-old-space-size=${HEAP_MB}`],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    // Its first message says that it has loaded.
    await once(this.#child, 'message');
  }

  /** @param {Buffer} input @throws {ReaderRefused} @throws {ReaderEnded} @throws {Error} a finding */
  async read(input) {
    const child = this.#child;
    if (child === undefined) throw new Error('it is not started');
    this.#inputs++;
    const answer = await new Promise((resolve) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
      /** @param {unknown} message */
      const settle = (message) => {
        clearTimeout(timer);
        child.removeAllListeners();
        resolve(message);
      };
      child.once('message', settle);
      child.once('exit', () => settle(undefined));
      child.send(input);
    });
    if (answer === undefined) {
      this.close();
      throw new ReaderEnded('its process took too much memory or time');
    }
    const { coverage, refused, fault } = /** @type {{ coverage: object, refused: boolean, fault: string }} */ (answer);
    copyCounts(coverage, /** @type {any} */ (globalThis));
    if (refused) throw new ReaderRefused(fault);
    if (fault !== '') throw new Error(fault);
  }

  close() {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
    this.#inputs = 0;
  }
}

/** @param {any} from @param {any} holder */
function copyCounts(from, holder) {
  holder.__coverage__ ??= {};
  for (const [file, counts] of Object.entries(from)) {
    holder.__coverage__[file] ??= counts;
    const known = holder.__coverage__[file];
    Object.assign(known.s, counts.s);
    for (const [branch, runs] of Object.entries(counts.b)) {
      // In place: the map of the coverage holds these arrays.
      for (const [index, times] of runs.entries()) known.b[branch][index] = times;
    }
  }
}

/** The most that is read of the rows of an input. */
const MAX_BYTES = 10_000_000;
const LIMITS = { columns: 'all', maxRows: 10_000 };

/** @type {Record<string, (folder: string) => Promise<(input: Buffer) => Promise<void>>>} */
const READERS = {
  async parquet(folder) {
    const { linesOfParquet } = await import(path.join(ROOT_DIR, 'packages/row-files/dist/parquet-lines.js'));
    const location = path.join(folder, 'x.parquet');
    return async (input) => {
      await writeFile(location, input);
      const file = await open(location);
      try {
        let bytes = 0;
        for await (const line of linesOfParquet(file, LIMITS)) {
          const row = JSON.parse(line.toString());
          if (line.at(-1) !== 0x0a || typeof row !== 'object' || row === null) throw new Error('a line is no row');
          bytes += line.length;
          if (bytes > MAX_BYTES) return;
        }
      } finally {
        await file.close();
      }
    };
  },
};

/** @param {(input: Buffer) => Promise<void>} read @param {Buffer} input */
async function answer(read, input) {
  const files = /** @type {Record<string, any>} */ (/** @type {any} */ (globalThis).__coverage__ ?? {});
  for (const { s, b } of Object.values(files)) {
    for (const key of Object.keys(s)) s[key] = 0;
    for (const runs of Object.values(b)) runs.fill(0);
  }
  let [refused, fault] = [false, ''];
  try {
    await read(input);
  } catch (error) {
    refused = error instanceof Error && error.constructor.name === 'ProductError';
    fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const coverage = Object.fromEntries(Object.entries(files).map(([file, { s, b }]) => [file, { s, b }]));
  process.send?.({ coverage, refused, fault });
}

// The child, which reads each input that its parent sends with one reader.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  register('./instrument-hooks.mjs', import.meta.url);
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fuzz-'));
  const read = await /** @type {NonNullable<typeof READERS[string]>} */ (READERS[process.argv[2] ?? ''])(folder);
  process.on('disconnect', () => void rm(folder, { recursive: true, force: true }).then(() => process.exit()));
  process.send?.({});
  process.on('message', (/** @type {Uint8Array} */ input) => void answer(read, Buffer.from(input)));
}
