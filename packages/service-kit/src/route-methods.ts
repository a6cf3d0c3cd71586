/** Knows which methods a path has, so that a wrong method is told apart from a wrong path. */
export class RouteMethods {
  readonly #routes: { path: RegExp; method: string }[] = [];

  /** @param url - Fastify's pattern: `:name` for one segment, `*` at the end for any rest. */
  add(url: string, methods: string | string[]): void {
    const source = url
      .replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&')
      .replaceAll(/:[A-Za-z0-9_]+/g, '[^/]+')
      .replace(/\*$/, '.*');
    for (const method of [methods].flat()) this.#routes.push({ path: new RegExp(`^${source}$`), method });
  }

  /** Methods of the routes that match a path, sorted; none when nothing is there. */
  allowedFor(pathname: string): string[] {
    const methods = this.#routes.filter(({ path }) => path.test(pathname)).map(({ method }) => method);
    return [...new Set(methods)].sort();
  }
}
