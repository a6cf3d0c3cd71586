import type { Fault } from '@lorasmith/contracts';
import type { MappedRow } from './map-row.js';

/** Columns named in one warning. */
const MAX_NAMED = 20;
const MAX_NAME_LENGTH = 64;

const CODES = { mapped: 'rows_mapped', leftOut: 'columns_left_out' };

/** Whether a warning with this code reports a change of the upload. */
export function isRowChange(code: string): boolean {
  return Object.values(CODES).includes(code);
}

/** The changes of an upload to the rows of a file, each with its first line. */
export class MappingReport {
  readonly #mappings = new Map<string, number>();
  readonly #leftOut = new Map<string, number>();
  #hasMoreColumns = false;

  add(line: number, { mappings, leftOut }: MappedRow): void {
    for (const mapping of mappings) {
      if (!this.#mappings.has(mapping)) this.#mappings.set(mapping, line);
    }
    for (const fullName of leftOut) {
      const name = fullName.slice(0, MAX_NAME_LENGTH);
      if (this.#leftOut.has(name)) continue;
      if (this.#leftOut.size < MAX_NAMED) this.#leftOut.set(name, line);
      else this.#hasMoreColumns = true;
    }
  }

  warnings(): Fault[] {
    const warnings = [...this.#mappings].map(([mapping, line]) => ({
      code: CODES.mapped,
      message: `${mapping}.`,
      line,
    }));
    const [first] = this.#leftOut.values();
    if (first === undefined) return warnings;
    const names = [...this.#leftOut.keys()].map((name) => JSON.stringify(name)).join(', ');
    const more = this.#hasMoreColumns ? ' and others' : '';
    const message = `Columns that are not used were left out: ${names}${more}.`;
    return [...warnings, { code: CODES.leftOut, message, line: first }];
  }
}
