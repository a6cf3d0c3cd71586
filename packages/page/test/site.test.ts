import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { buildSite } from '../build-site.mjs';

const SITE = path.join(import.meta.dirname, '../dist/site');
const FIRST_LOAD_BYTES = 150_000;

let index: string;
/** The files that the index page loads, without which nothing is shown. */
let loaded: string[];

beforeAll(async () => {
  await buildSite();
  index = await readFile(path.join(SITE, 'index.html'), 'utf8');
  loaded = [...index.matchAll(/<(?:script|link)\b[^>]*\b(?:src|href)="\.\/([^"]+)"/g)].map(([, file]) => file!);
});

test('the page names every script that it needs first; those of some views come later, and all files are there', async () => {
  const files = (await readdir(path.join(SITE, 'assets'))).filter((name) => /\.(js|css)$/.test(name));
  const isLoaded = (file: string) => loaded.includes(`assets/${file}`);
  expect(files.filter((file) => file.endsWith('.css')).map(isLoaded)).toEqual([true]);
  expect(files.filter((file) => file.endsWith('.js') && !isLoaded(file)).length).toBeGreaterThan(0);
  for (const file of loaded) expect(existsSync(path.join(SITE, file)), file).toBe(true);
  for (const file of loaded.filter((name) => name.endsWith('.js'))) {
    const code = await readFile(path.join(SITE, file), 'utf8');
    for (const [, imported] of code.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g))
      expect(isLoaded(imported!), imported).toBe(true);
  }
});

test.each(['.gz', '.br'])('the first load is below 150 kB as %s', async (suffix) => {
  const sizes = await Promise.all(
    ['index.html', ...loaded].map(async (file) => (await stat(path.join(SITE, `${file}${suffix}`))).size),
  );
  const bytes = sizes.reduce((sum, size) => sum + size);
  console.log(`First load of the page as ${suffix}: ${(bytes / 1000).toFixed(1)} kB`);
  expect(bytes).toBeGreaterThan(10_000);
  expect(bytes).toBeLessThan(FIRST_LOAD_BYTES);
});

test('the page fits its policy: no inline script or style, no other origin, no way from text to HTML', async () => {
  expect(index).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|(?:src|href)="(?!\.\/)/);
  const assets = (await readdir(path.join(SITE, 'assets'))).filter((name) => /\.(js|css)$/.test(name));
  const code = (await Promise.all(assets.map((file) => readFile(path.join(SITE, 'assets', file), 'utf8')))).join('\n');
  expect(code).not.toMatch(/url\((?!#)|@import/);
  const sources = path.join(import.meta.dirname, '../src');
  for (const name of await readdir(sources, { recursive: true })) {
    if (!/\.tsx?$/.test(name)) continue;
    const source = await readFile(path.join(sources, name), 'utf8');
    expect(source, name).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/);
    expect(source, name).not.toContain(['dangerously', 'SetInnerHTML'].join(''));
  }
});

test('the licences of what is bundled are served with it', async () => {
  const licences = await readFile(path.join(SITE, 'assets/licenses.md'), 'utf8');
  for (const name of ['preact', 'uplot', 'typebox']) expect(licences.toLowerCase()).toContain(name);
});
