import { defaultClientConditions, defineConfig } from 'vite';

export default defineConfig({
  root: import.meta.dirname,
  // Relative, so that the page also works below a path of a proxy.
  base: './',
  // Our packages are bundled from their sources, so a build needs no compiled ones.
  resolve: { conditions: ['source', ...defaultClientConditions] },
  build: {
    // What has light-dark() and AbortSignal.any.
    target: ['chrome123', 'firefox124', 'safari17.5'],
    // The content security policy allows no inline code and no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: 'assets/licenses.md' },
    reportCompressedSize: false,
  },
  // npx vite packages/page: the page with hot reload, on a stack that runs at its default address.
  server: {
    proxy: {
      '^/(adapters|comparisons|datasets|docs|jobs|live|machines|model-pulls|models|openapi.json|ready|sweeps|v1)\\b':
        'http://127.0.0.1:8080',
    },
  },
});
