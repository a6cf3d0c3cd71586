// Addresses within the page are fragments, such as `#/jobs/job_1?tab=events`: the paths themselves belong to the API.

export interface Route {
  /** Starts with `/`. Its segments are still encoded. */
  path: string;
  query: URLSearchParams;
}

export type RouteQuery = Readonly<Record<string, string | undefined>>;

/** The route of a fragment; null for another fragment, such as that of a skip link. */
export function routeOfHash(hash: string): Route | null {
  if (hash === '' || hash === '#') return { path: '/', query: new URLSearchParams() };
  if (!hash.startsWith('#/')) return null;
  const question = hash.indexOf('?');
  const path = question === -1 ? hash.slice(1) : hash.slice(1, question);
  return { path, query: new URLSearchParams(question === -1 ? '' : hash.slice(question)) };
}

/** The fragment of a route. Segments of `path` must be encoded: see {@link pathOf}. Empty values are left out. */
export function hashOf(path: string, query: RouteQuery = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== '') as [string, string][];
  const text = new URLSearchParams(given).toString();
  return `#${path}${text === '' ? '' : `?${text}`}`;
}

/** A path from a pattern such as `/jobs/:id`, with encoded values. */
export function pathOf(pattern: string, params: Readonly<Record<string, string>>): string {
  return pattern.replaceAll(/:(\w+)/g, (_, name: string) => encodeURIComponent(params[name] ?? ''));
}

/** The decoded values of a pattern's names if it matches the whole path; otherwise null. */
export function matchPath(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split('/');
  const given = path.split('/');
  if (wanted.length !== given.length) return null;
  const params: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const segment = given[index]!;
    if (!part.startsWith(':')) {
      if (part !== segment) return null;
      continue;
    }
    const value = decoded(segment);
    if (value === null || value === '') return null;
    params[part.slice(1)] = value;
  }
  return params;
}

function decoded(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}
