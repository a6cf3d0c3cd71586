import type { ComponentChildren } from 'preact';
import { type Sort, type SortValue, sortedRows } from './list-query.js';

export interface Column<Row> {
  title: string;
  cell: (row: Row) => ComponentChildren;
  /** Numbers are aligned at their end. */
  isNumber?: boolean;
  /** Undefined: the table does not sort its rows by it. */
  sortBy?: SortValue<Row>;
  /** True if its title is pressed although the rows come sorted. */
  isSortable?: boolean;
}

export interface DataTableProps<Row> {
  /** Says what the table lists; read by screen readers. */
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  /** Null: rows are in the order of the list. */
  sort?: Sort | null;
  /** Called with the title of a column that is pressed. Without it, titles are not pressed. */
  onSort?: (title: string) => void;
  /** A class of a row. */
  rowClass?: (row: Row) => string | undefined;
}

/** A table. On a narrow screen each row becomes a block of labelled values. The first column names the row. */
export function DataTable<Row>({ caption, columns, rows, keyOf, sort = null, onSort, rowClass }: DataTableProps<Row>) {
  const classOf = ({ isNumber }: Column<Row>) => (isNumber ? 'number' : undefined);
  return (
    <table class={onSort === undefined ? 'data-table' : 'data-table sortable'}>
      <caption class="visually-hidden">{caption}</caption>
      <thead>
        <tr>
          {columns.map((column) => (
            <th key={column.title} scope="col" class={classOf(column)} aria-sort={ariaSort(column.title, sort)}>
              {onSort === undefined || (column.sortBy === undefined && !column.isSortable) ? (
                column.title
              ) : (
                <button type="button" class="sort" onClick={() => onSort(column.title)}>
                  {column.title} <span aria-hidden="true">{MARKS[ariaSort(column.title, sort) ?? 'none']}</span>
                </button>
              )}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {sortedRows(rows, columns, sort).map((row) => (
          <tr key={keyOf(row)} class={rowClass?.(row)}>
            {columns.map((column, index) =>
              index === 0 ? (
                <th key={column.title} scope="row" data-label={column.title} class={classOf(column)}>
                  {column.cell(row)}
                </th>
              ) : (
                <td key={column.title} data-label={column.title} class={classOf(column)}>
                  {column.cell(row)}
                </td>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const MARKS = { ascending: '↑', descending: '↓', none: '' } as const;

function ariaSort(title: string, sort: Sort | null): 'ascending' | 'descending' | undefined {
  if (sort?.title !== title) return undefined;
  return sort.isDescending ? 'descending' : 'ascending';
}

/** Names with their values. Entries without a value are left out. */
export function Facts({ entries }: { entries: readonly (readonly [name: string, value: ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {entries
        .filter(([, value]) => value !== undefined && value !== null && value !== '')
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

export interface ScrollRegionProps {
  /** Names the region for screen readers. */
  label: string;
  class?: string;
  children: ComponentChildren;
}

/** Content that may be wider or higher than its box. A keyboard can scroll only what has the focus. */
export function ScrollRegion({ label, class: className, children }: ScrollRegionProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
    <section class={`scroll-region ${className ?? ''}`} tabIndex={0} aria-label={label}>
      {children}
    </section>
  );
}
