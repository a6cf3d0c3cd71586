import { createWriteStream, fstatSync, mkdirSync, openSync, renameSync } from 'node:fs';
import path from 'node:path';

/** The size at which a log file is renamed to `.1`, in place of the one before: a part has at most two of them. */
export const LOG_FILE_BYTES = 20_000_000;

/** The most that waits for the disk. Further lines are dropped, so that a slow disk does not fill the memory. */
const MAX_WAITING_BYTES = 4_000_000;

/** A longer line is cut: the output of a program that writes no end of line. */
const LONGEST_LINE = 50_000;

/** A full disk is tried again after this time. */
const RETRY_MS = 1_000;

/**
 * The log file of a part of the stack, which stays within a size while it is written. A disk that takes nothing stops neither
 * the stack nor the part: lines are dropped until it does.
 */
export class LogFile {
  #file;
  #maxBytes;
  #size = 0;
  #failedAt = Number.NEGATIVE_INFINITY;
  #hasEnded = false;
  /** @type {import('node:fs').WriteStream | undefined} */
  #stream;

  /**
   * @param {string} file
   * @param {number} [maxBytes]
   */
  constructor(file, maxBytes = LOG_FILE_BYTES) {
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#open();
  }

  /** @param {string} line without its end */
  write(line) {
    if (this.#hasEnded) return;
    if (this.#size > this.#maxBytes) this.#rotate();
    if (!this.#stream && performance.now() - this.#failedAt > RETRY_MS) this.#open();
    if (!this.#stream || this.#stream.writableLength > MAX_WAITING_BYTES) return;
    const text = `${line.slice(0, LONGEST_LINE)}\n`;
    this.#size += Buffer.byteLength(text);
    this.#stream.write(text);
  }

  end() {
    this.#hasEnded = true;
    this.#stream?.end();
  }

  /** Renames the file. Lines that still wait for the disk go into it, because the old stream has it open. */
  #rotate() {
    this.#stream?.end();
    this.#stream = undefined;
    try {
      renameSync(this.#file, `${this.#file}.1`);
      this.#open();
    } catch {
      // Rather the newest lines than none.
      this.#open('w');
    }
  }

  /** @param {'a' | 'w'} [flags] `w`: what is in the file is dropped */
  #open(flags = 'a') {
    try {
      mkdirSync(path.dirname(this.#file), { recursive: true });
      const fd = openSync(this.#file, flags, 0o600);
      this.#size = fstatSync(fd).size;
      const stream = createWriteStream(this.#file, { fd });
      stream.on('error', () => {
        if (this.#stream === stream) this.#stream = undefined;
        this.#failedAt = performance.now();
      });
      this.#stream = stream;
    } catch {
      this.#failedAt = performance.now();
    }
  }
}
