import { countText } from '@lorasmith/client/core';
import { MAX_NAME_CHARACTERS } from '@lorasmith/contracts';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { changeQuery, Link } from '../location.js';
import { nextSort, type Sort } from './list-query.js';

/** The time after the last key until the service is asked. */
const SEARCH_PAUSE_MS = 250;

export interface SearchFieldProps {
  /** The text in the address, as `q`. */
  search: string;
  placeholder: string;
}

/** A text to find among all things of a list, whichever are in sight. The address has it. `/` leads to it. */
export function SearchField({ search, placeholder }: SearchFieldProps) {
  const input = useRef<HTMLInputElement>(null);
  const [typed, setTyped] = useState(search);
  const sought = useRef(search);
  useEffect(() => {
    // Another one than was sought from here: the address has changed, such as by going back.
    if (search === sought.current) return;
    sought.current = search;
    setTyped(search);
  }, [search]);
  const find = (text: string) => {
    if (text === sought.current) return;
    sought.current = text;
    changeQuery({ q: text, after: undefined });
  };
  useEffect(() => {
    const timer = setTimeout(() => find(typed), SEARCH_PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(() => {
    const lead = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLElement && event.target.matches('input, select, textarea');
      if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
      event.preventDefault();
      input.current?.focus();
    };
    document.addEventListener('keydown', lead);
    return () => document.removeEventListener('keydown', lead);
  }, []);
  return (
    <label>
      Find{' '}
      <input
        ref={input}
        type="search"
        placeholder={placeholder}
        aria-keyshortcuts="/"
        maxLength={MAX_NAME_CHARACTERS}
        value={typed}
        onInput={({ currentTarget }) => setTyped(currentTarget.value)}
        onKeyDown={({ key }) => key === 'Enter' && find(typed)}
      />
    </label>
  );
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

export interface ListTotalProps {
  total: number;
  /** One of the things: `job`. */
  one: string;
  isSearched: boolean;
}

/** The number of things of the whole list. */
export function ListTotal(props: ListTotalProps) {
  return (
    <p class="list-total">
      <span role="status">{totalText(props)}</span>
    </p>
  );
}

/** The text of {@link ListTotal}. */
export function totalText({ total, one, isSearched }: ListTotalProps): string {
  if (total === 0) return `No ${one} matches.`;
  const things = `${countText(total)} ${one}${total === 1 ? '' : 's'}`;
  return isSearched ? `${things} ${total === 1 ? 'matches' : 'match'}` : things;
}

export interface ListPagesProps {
  /** The list: `/jobs`. */
  to: string;
  /** The name of the things: `jobs`. */
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

export interface TagListProps {
  tags: readonly string[];
  /** The list that a tag leads to: `/jobs`. */
  to: string;
}

/** The tags of a thing. Each leads to all that have it. */
export function TagList({ tags, to }: TagListProps) {
  if (tags.length === 0) return null;
  return (
    <span class="tags">
      {tags.map((tag) => (
        <Link key={tag} to={to} query={{ tag }} class="tag">
          <span class="visually-hidden">tag </span>
          {tag}
        </Link>
      ))}
    </span>
  );
}

/** The value, or the last one while the next is read: a list stays in sight until its successor is there. */
export function useLast<Value>(value: Value | undefined): Value | undefined {
  const last = useRef(value);
  if (value !== undefined) last.current = value;
  return last.current;
}

/** The entry of the history has the position, so only going back or forth to it returns there. */
interface ScrollState {
  scrollY?: number;
}

/** The time after the last movement until the position is noted: browsers refuse to note too often. */
const SCROLL_PAUSE_MS = 100;

/**
 * Returns to where a list was scrolled when its user comes back to it by the history; another page of it begins at its top. The browser itself tries before
 * the list has its content.
 * @param page - Names the page of the list.
 * @param isLoaded - True if its content is there.
 */
export function useKeptScroll(page: string, isLoaded: boolean): void {
  const wanted = useRef<number | null>(null);
  const isFirst = useRef(true);
  useLayoutEffect(() => {
    wanted.current = (window.history.state as ScrollState | null)?.scrollY ?? (isFirst.current ? null : 0);
    isFirst.current = false;
  }, [page]);
  useLayoutEffect(() => {
    if (!isLoaded || wanted.current === null) return undefined;
    const position = wanted.current;
    wanted.current = null;
    return reachPosition(position);
  }, [page, isLoaded]);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const note = () => window.history.replaceState({ scrollY: window.scrollY } satisfies ScrollState, '');
    const noteSoon = () => {
      clearTimeout(timer);
      timer = setTimeout(note, SCROLL_PAUSE_MS);
    };
    window.addEventListener('scroll', noteSoon, { passive: true });
    return () => {
      clearTimeout(timer);
      window.removeEventListener('scroll', noteSoon);
    };
  }, []);
}

/** Events of the user that end the return to an earlier position. */
const OF_USER = ['wheel', 'touchstart', 'pointerdown', 'keydown'] as const;

/** Scrolls to a position, also if the content only grows there. @returns a function that ends it */
function reachPosition(position: number): () => void {
  const growth = new ResizeObserver(() => move());
  const end = () => {
    growth.disconnect();
    for (const type of OF_USER) window.removeEventListener(type, end);
  };
  const move = () => {
    window.scrollTo(0, position);
    if (Math.abs(window.scrollY - position) < 1) end();
  };
  growth.observe(document.body);
  for (const type of OF_USER) window.addEventListener(type, end, { passive: true });
  move();
  return end;
}
