import { readdir, readFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

// An image contains only packages of `dependencies`, while the workspace also resolves those of `devDependencies`. The page is
// bundled when it is built, and an image contains only its files.
const BUNDLED = ['packages/page'];

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const IMPORT =
  /^(?:import|export)\b[^;'"]*?\bfrom '([^'.][^']*)'|\bimport\('([^'.][^']*)'\)|\brequire\('([^'.][^']*)'\)/gm;

async function packageFolders(): Promise<string[]> {
  const groups = await Promise.all(
    ['packages', 'services'].map(async (group) =>
      (await readdir(path.join(ROOT, group))).map((name) => `${group}/${name}`),
    ),
  );
  return groups.flat().filter((folder) => !BUNDLED.includes(folder));
}

test.each(await packageFolders())('%s imports only packages of its dependencies', async (folder) => {
  const { dependencies = {} } = JSON.parse(await readFile(path.join(ROOT, folder, 'package.json'), 'utf8'));
  const files = (await readdir(path.join(ROOT, folder, 'src'), { recursive: true })).filter(
    (file) => file.endsWith('.ts') && !file.endsWith('.test.ts'),
  );
  expect(files.length).toBeGreaterThan(0);
  const missing = new Set<string>();
  for (const file of files) {
    const source = await readFile(path.join(ROOT, folder, 'src', file), 'utf8');
    for (const [statement, ...names] of source.matchAll(IMPORT)) {
      const name = names.find((found) => found !== undefined) ?? '';
      if (statement.startsWith('import type') || isBuiltin(name)) continue;
      const imported = name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/');
      if (!(imported in dependencies)) missing.add(`${file}: ${imported}`);
    }
  }
  expect([...missing]).toEqual([]);
});
