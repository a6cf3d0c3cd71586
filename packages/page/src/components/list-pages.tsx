import { changeQuery } from '../location.js';
import { Link } from './link.js';
import { nextSort, type Sort } from './table-sort.js';

export interface ListPagesProps {
  /** The list: `/jobs`. */
  to: string;
  /** The things, for the words: `jobs`. */
  things: string;
  /** The parameters of the address. */
  query: URLSearchParams;
  /** Null: newest first. */
  sort: Sort | null;
  /** The id after which the next page begins; null: there is none. */
  next: string | null;
}

/** The links to the first and to the next page of a list, in its order. */
export function ListPages({ to, things, query, sort, next }: ListPagesProps) {
  const first = Object.fromEntries([...query].filter(([name]) => name !== 'after'));
  return (
    <div class="buttons">
      {query.get('after') !== null && (
        <Link to={to} query={first} class="button">
          {sort === null ? 'Newest' : 'First'} {things}
        </Link>
      )}
      {next !== null && (
        <Link to={to} query={{ ...first, after: next }} class="button">
          {sort === null ? 'Older' : 'Next'} {things}
        </Link>
      )}
    </div>
  );
}

/** The order of a list for its table: the caption, for screen readers, and the titles, which sort all pages. */
export function listOrder(things: string, sort: Sort | null) {
  return {
    caption: sort === null ? `${things}, newest first` : `${things}, by ${sort.title}`,
    sort,
    onSort: (title: string) => changeQuery({ sort: nextSort(sort, title), after: undefined }),
  };
}
