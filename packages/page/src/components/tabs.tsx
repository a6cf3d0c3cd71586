import type { ComponentChildren } from 'preact';
import { hashOf } from '../route.js';

export interface Tab {
  name: string;
  label: string;
  content: () => ComponentChildren;
}

export interface TabsProps {
  /** Names the tabs for screen readers. */
  label: string;
  tabs: readonly Tab[];
  path: string;
  query: URLSearchParams;
}

/** Parts of a view, of which one is shown: the one that `tab` in the address names, else the first. They are links. */
export function Tabs({ label, tabs, path, query }: TabsProps) {
  const shown = tabs.find(({ name }) => name === query.get('tab')) ?? tabs[0];
  if (shown === undefined) return null;
  return (
    <>
      <nav class="tabs" aria-label={label}>
        {tabs.map(({ name, label: text }) => (
          <a
            key={name}
            href={hashOf(path, { ...Object.fromEntries(query), tab: name })}
            aria-current={name === shown.name ? 'page' : undefined}
          >
            {text}
          </a>
        ))}
      </nav>
      <div class="tab-content" key={shown.name}>
        {shown.content()}
      </div>
    </>
  );
}
