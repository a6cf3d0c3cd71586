import type { ComponentChildren } from 'preact';
import { hashOf, pathOf, type Route, type RouteQuery, routeOfHash } from './route.js';
import { createStore, type Store, useStore } from './store.js';

const route: Store<Route> = createStore(routeOfHash(window.location.hash) ?? routeOfHash('')!);

window.addEventListener('hashchange', () => {
  const changed = routeOfHash(window.location.hash);
  if (changed !== null) route.set(changed);
});

/** The current route. */
export function useRoute(): Route {
  return useStore(route);
}

/** Goes to a path whose segments are encoded. `replace`: without an entry in the history. */
export function navigate(path: string, query: RouteQuery = {}, { replace = false } = {}): void {
  const hash = hashOf(path, query);
  if (!replace) {
    window.location.hash = hash;
    return;
  }
  window.history.replaceState(null, '', hash);
  route.set(routeOfHash(hash)!);
}

/** Changes some parameters of the current route, without an entry in the history. */
export function changeQuery(changes: RouteQuery): void {
  const { path, query } = route.get();
  navigate(path, { ...Object.fromEntries(query), ...changes }, { replace: true });
}

export interface LinkProps {
  /** A pattern of the page's views, such as `/jobs/:id`. */
  to: string;
  params?: Readonly<Record<string, string>>;
  query?: RouteQuery;
  class?: string;
  children: ComponentChildren;
}

/** A link to a view of this page. */
export function Link({ to, params = {}, query = {}, class: className, children }: LinkProps) {
  return (
    <a href={hashOf(pathOf(to, params), query)} class={className}>
      {children}
    </a>
  );
}

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
