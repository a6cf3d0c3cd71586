import { countText } from '@lorasmith/client/core';
import { useEffect, useState } from 'preact/hooks';
import { changeQuery } from '../location.js';

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

/** The words of {@link ListTotal}. */
export function totalText({ total, one, isSearched }: ListTotalProps): string {
  if (total === 0) return `No ${one} matches.`;
  const things = `${countText(total)} ${one}${total === 1 ? '' : 's'}`;
  return isSearched ? `${things} ${total === 1 ? 'matches' : 'match'}` : things;
}
