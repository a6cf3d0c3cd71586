import { MAX_NAME_CHARACTERS } from '@lorasmith/contracts';
import { useEffect, useRef, useState } from 'preact/hooks';
import { changeQuery } from '../location.js';

/** The time after the last key until the service is asked. */
const PAUSE_MS = 250;

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
    const timer = setTimeout(() => find(typed), PAUSE_MS);
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
