import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * One line of `results.json` under `parts`.
 *
 * @typedef {object} PartReport
 * @property {string} name
 * @property {string} title
 * @property {import('./run-part.mjs').Ending | 'cut short' | 'not run'} ending `cut short`: the time of all parts was over before its own
 * @property {string} how why it was not run, or how its process ended
 * @property {number} seconds
 * @property {string[]} lines Markdown
 * @property {unknown} result
 */

const FENCE = '```';
/** The lines that are shown of the log of a failed part. */
const SHOWN_LOG_LINES = 25;

/** @param {PartReport['ending']} ending @returns {boolean} whether the part itself failed */
export function isFailure(ending) {
  return ending !== 'done' && !isLeftOut(ending);
}

/** @param {PartReport['ending']} ending @returns {boolean} whether there was no time for the whole part */
export function isLeftOut(ending) {
  return ending === 'not run' || ending === 'cut short';
}

/** Keeps `results.json` and `report.md` in a folder up to date: what was measured is there even if the machine goes away. */
export class Report {
  #out;
  #header;
  /** @type {string[]} */
  #summary = [];
  /** @type {PartReport[]} */
  #parts = [];

  /** @param {string} out folder @param {Record<string, unknown>} header */
  constructor(out, header) {
    this.#out = out;
    this.#header = header;
    this.#write();
  }

  /** True if every part that ran was done. */
  get isGood() {
    return !this.#parts.some(({ ending }) => isFailure(ending));
  }

  /** @returns {readonly PartReport[]} the parts so far */
  get parts() {
    return this.#parts;
  }

  /** Adds facts to the header. @param {Record<string, unknown>} facts */
  describe(facts) {
    Object.assign(this.#header, facts);
    this.#write();
  }

  /** Sets what follows from the parts so far. @param {string[]} lines Markdown, shown before the parts */
  summarize(lines) {
    this.#summary = lines;
    this.#write();
  }

  /** @param {PartReport & { log?: string }} part */
  add({ log = '', ...part }) {
    const isBad = isFailure(part.ending);
    const tail = log.trimEnd().split('\n').slice(-SHOWN_LOG_LINES).join('\n');
    const shown = isBad && tail !== '' ? ['', `The end of its log:`, '', FENCE, tail, FENCE] : [];
    this.#parts.push({ ...part, lines: [...part.lines, ...shown] });
    this.#write();
  }

  #write() {
    this.#replace(
      'results.json',
      `${JSON.stringify({ ...this.#header, summary: this.#summary, parts: this.#parts }, null, 2)}\n`,
    );
    const header = Object.entries(this.#header).map(([name, value]) => `- ${name}: ${value}`);
    const parts = this.#parts.flatMap(({ title, ending, how, seconds, lines }) => [
      '',
      `## ${title}`,
      '',
      ending === 'not run'
        ? `Not run: ${how}.`
        : `${ending === 'done' ? 'Done' : `**${ending}** (${how})`} in ${seconds.toFixed(1)} s.`,
      ...(lines.length > 0 ? ['', ...lines] : []),
    ]);
    const summary = this.#summary.length === 0 ? [] : ['', '## Summary', '', ...this.#summary];
    this.#replace('report.md', `${['# Check of a GPU', '', ...header, ...summary, ...parts].join('\n')}\n`);
  }

  /** @param {string} name @param {string} text */
  #replace(name, text) {
    const file = path.join(this.#out, name);
    writeFileSync(`${file}.partial`, text);
    renameSync(`${file}.partial`, file);
  }
}
