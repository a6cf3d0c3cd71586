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
