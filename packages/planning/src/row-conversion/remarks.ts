/** Something in a row that the report warns of, although the row can be trained on. */
export interface RowRemark {
  /** The code of the warning. */
  code: string;
  detail?: string;
}

/** Rows with the same remark. */
export interface RemarkCount {
  code: string;
  rows: number;
  /** Line of the first of them. */
  line: number;
  /** The detail of the first of them. */
  detail: string;
}

/** Counts the remarks on rows. The rows are added in the order of the file. */
export class RemarkCounts {
  readonly #counts = new Map<string, RemarkCount>();

  get all(): RemarkCount[] {
    return [...this.#counts.values()];
  }

  add({ code, rows, line, detail }: RemarkCount): void {
    const known = this.#counts.get(code);
    if (known === undefined) this.#counts.set(code, { code, rows, line, detail });
    else known.rows += rows;
  }
}
