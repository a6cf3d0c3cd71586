import { hashOf, type Route, type RouteQuery, routeOfHash } from './route.js';
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
