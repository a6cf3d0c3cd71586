import { countText } from '@lorasmith/client/core';
import { useEffect, useState } from 'preact/hooks';
import { changeQuery } from '../location.js';

export interface ListSearch {
  /** The filters of the request. */
  filters: { q?: string; tag?: string };
  after: string | undefined;
  /** Whether a search leaves something out. */
  isSearched: boolean;
  /** Whether the list may have others than are in sight. */
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

/** Only things with a tag. */
export function TagFilter({ tag = '' }: { tag: string | undefined }) {
  // What is typed is kept while the list is read again, until it is sent.
  const [typed, setTyped] = useState(tag);
  useEffect(() => setTyped(tag), [tag]);
  return (
    <label>
      Tag{' '}
      <input
        type="search"
        class="short-input"
        value={typed}
        onInput={({ currentTarget }) => setTyped(currentTarget.value)}
        onChange={({ currentTarget }) => changeQuery({ tag: currentTarget.value, after: undefined })}
      />
    </label>
  );
}

/** The number of things of the whole list. */
export function ListTotal({ total, one, isSearched }: { total: number; one: string; isSearched: boolean }) {
  const things = `${countText(total)} ${one}${total === 1 ? '' : 's'}`;
  const text =
    total === 0 ? `No ${one} matches.` : isSearched ? `${things} ${total === 1 ? 'matches' : 'match'}` : things;
  return (
    <p class="list-total">
      <span role="status">{text}</span>
    </p>
  );
}
