import { writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * A number of each case in each column: its excess (the greatest difference in units of the tolerance, above 1 a fault), or seconds.
 * `CASE_TABLES=FOLDER` writes it as Markdown, the largest numbers first, after each case: a run may be ended.
 */
export class CaseTable {
  readonly #rows = new Map<string, Map<string, number>>();
  readonly #columns: readonly string[];

  constructor(columns: readonly string[]) {
    this.#columns = columns;
  }

  add(name: string, column: string, value: number | null): void {
    const row = this.#rows.get(name) ?? new Map<string, number>();
    this.#rows.set(name, row.set(column, value ?? Number.POSITIVE_INFINITY));
  }

  write(name: string): void {
    const folder = process.env.CASE_TABLES;
    if (folder) writeFileSync(path.join(folder, name), this.toString());
  }

  toString(): string {
    const worst = (row: Map<string, number>) => Math.max(...row.values());
    const rows = [...this.#rows].sort(([, a], [, b]) => worst(b) - worst(a));
    const cell = (value: number | undefined) => (value === undefined ? '' : value.toFixed(2));
    const lines = rows.map(([name, row]) => [name, ...this.#columns.map((column) => cell(row.get(column)))]);
    const table = [['case', ...this.#columns], ['---', ...this.#columns.map(() => '---:')], ...lines];
    return `${table.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;
  }
}
