export interface ListSearch {
  /** The filters of the request. */
  filters: { q?: string; tag?: string };
  after: string | undefined;
  /** True if a search leaves something out. */
  isSearched: boolean;
  /** True if the list may have others than are in sight. */
  isFiltered: boolean;
  /** The text as it is typed. */
  search: string;
}

/** The search of a list, as the address has it. */
export function searchOf(query: URLSearchParams): ListSearch {
  const search = query.get('q') ?? '';
  const tag = query.get('tag')?.trim() ?? '';
  const after = query.get('after') ?? undefined;
  const filters = {
    ...(search.trim() === '' ? {} : { q: search.trim() }),
    ...(tag === '' ? {} : { tag }),
  };
  const isSearched = Object.keys(filters).length > 0;
  return { filters, after, isSearched, isFiltered: isSearched || after !== undefined, search };
}

/** A column that a table is sorted by, by its title. */
export interface Sort {
  title: string;
  isDescending: boolean;
}

/** The value that a column is sorted by. Null comes last. */
export type SortValue<Row> = (row: Row) => string | number | null;

/** The sort of an address: `Took`, or `-Took` for a descending one. */
export function sortOf(text: string | null): Sort | null {
  if (!text) return null;
  const isDescending = text.startsWith('-');
  return { title: isDescending ? text.slice(1) : text, isDescending };
}

/** The order of a list: its column, and the parameters of the request. */
export interface ListSort<By extends string> {
  /** Null: newest first. */
  sort: Sort | null;
  parameters: { sort?: By; order?: 'asc' | 'desc' };
}

/** The order of a list that the service sorts, as the address has it. @param sorts - The `sort` of the API by the title of a column */
export function listSortOf<By extends string>(
  address: URLSearchParams,
  sorts: Readonly<Record<string, By>>,
): ListSort<By> {
  const sort = sortOf(address.get('sort'));
  const by = sort === null || !Object.hasOwn(sorts, sort.title) ? undefined : sorts[sort.title];
  if (sort === null || by === undefined) return { sort: null, parameters: {} };
  return { sort, parameters: { sort: by, order: sort.isDescending ? 'desc' : 'asc' } };
}

/** The order in the address after a press on a title: ascending, then descending, then the order of the list. */
export function nextSort(sort: Sort | null, title: string): string | undefined {
  if (sort?.title !== title) return title;
  return sort.isDescending ? undefined : `-${title}`;
}

/** The rows in the order of a column. Rows with the same value keep their order. */
export function sortedRows<Row>(
  rows: readonly Row[],
  columns: readonly { title: string; sortBy?: SortValue<Row> }[],
  sort: Sort | null,
): readonly Row[] {
  const sortBy = columns.find(({ title }) => title === sort?.title)?.sortBy;
  if (sort === null || sortBy === undefined) return rows;
  const sign = sort.isDescending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [first, second] = [sortBy(one), sortBy(other)];
    if (first === null || second === null) return Number(first === null) - Number(second === null);
    if (typeof first === 'number' && typeof second === 'number') return sign * (first - second);
    return sign * String(first).localeCompare(String(second), undefined, { numeric: true });
  });
}

/** The tags that are typed with commas between them, each once. */
export function tagsOfText(text: string): string[] {
  const tags = text.split(',').map((tag) => tag.trim());
  return [...new Set(tags.filter((tag) => tag !== ''))];
}
