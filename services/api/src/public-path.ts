import type { HttpApp } from '@lorasmith/service-kit';

/**
 * The path of a request within the service. A proxy may remove its path before it forwards, or leave it.
 *
 * @param publicPath - as `/lora`; empty: none
 */
export function withoutPublicPath(url: string, publicPath: string): string {
  if (publicPath === '' || !url.startsWith(publicPath)) return url;
  const rest = url.slice(publicPath.length);
  if (rest === '' || rest.startsWith('?')) return `/${rest}`;
  return rest.startsWith('/') ? rest : url;
}

/** Adds the path to every address that an answer names, and sends the page's visitors to it with its last slash. */
export function addPublicPath(app: HttpApp, publicPath: string): void {
  if (publicPath === '') return;
  // The files of the page are relative to its address, which needs the slash for that.
  app.addHook('onRequest', async ({ originalUrl }, reply) => {
    if (originalUrl === publicPath) return reply.redirect(`${publicPath}/`);
  });
  app.addHook('onSend', async (_request, reply) => {
    const location = reply.getHeader('location');
    if (typeof location !== 'string' || !/^\/(?!\/)/.test(location) || location.startsWith(`${publicPath}/`)) return;
    reply.header('location', `${publicPath}${location}`);
  });
}
