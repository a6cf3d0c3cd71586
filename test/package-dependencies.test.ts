import { readdir, readFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { packageFolders } from '../scripts/setup/locations.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** The page is bundled when it is built, so an image contains only its files, and its packages are development dependencies. */
const BUNDLED = ['packages/page'];
/** Folders of programs besides packages and services, with the folders that each may import from. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  scripts: ['packages', 'services'],
  examples: ['packages', 'services', 'scripts'],
  docker: ['packages', 'services', 'scripts'],
  'test/bench': ['packages', 'services', 'scripts', 'test'],
  'test/checks': ['packages', 'services', 'scripts', 'docker', 'examples', 'test'],
};

interface SourceFile {
  /** The path from the root of the repository. */
  file: string;
  /** The imports and includes, as the source says them. */
  imports: string[];
}

interface Package {
  folder: string;
  name: string;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  /** Sources without tests. */
  sources: SourceFile[];
  readme: string;
}

// Type imports and imports in JSDoc count as any other.
const IMPORT = /\b(?:from|import) '([^'\s]+)'|\b(?:import|require)\('([^'\s]+)'\)/g;
const INCLUDE = /^\s*#\s*include\s+"([^"]+)"/gm;

async function sourcesIn(folder: string): Promise<SourceFile[]> {
  const names = await readdir(path.join(ROOT, folder), { recursive: true }).catch(() => []);
  const sources = names.filter(
    (name) =>
      /\.(ts|tsx|mjs|cc|h|cu|cuh)$/.test(name) &&
      !name.includes('.test.') &&
      !/(^|\/)(node_modules|dist|build[^/]*|test)\//.test(name),
  );
  return await Promise.all(
    sources.map(async (name) => {
      const text = await readFile(path.join(ROOT, folder, name), 'utf8');
      const pattern = /\.(ts|tsx|mjs)$/.test(name) ? IMPORT : INCLUDE;
      const imports = [...text.matchAll(pattern)].map(([, one, other]) => one ?? other ?? '');
      return { file: `${folder}/${name}`, imports };
    }),
  );
}

async function readPackage(folder: string): Promise<Package> {
  const manifest = JSON.parse(await readFile(path.join(ROOT, folder, 'package.json'), 'utf8'));
  const { name, dependencies = {}, devDependencies = {} } = manifest;
  const sources = [...(await sourcesIn(`${folder}/src`)), ...(await sourcesIn(`${folder}/native`))];
  const readme = await readFile(path.join(ROOT, folder, 'README.md'), 'utf8').catch(() => '');
  return { folder, name, dependencies, devDependencies, sources, readme };
}

async function readPackages(): Promise<Package[]> {
  return await Promise.all(packageFolders().map(readPackage));
}

/** The file that a relative import names, from the root of the repository. */
function targetOf(file: string, specifier: string): string {
  return path.normalize(path.join(path.dirname(file), specifier)).replace(/\.js$/, '.ts');
}

const isRelative = (specifier: string) => specifier.startsWith('.');
const packageOf = (specifier: string) =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
/** Two folders of a path: a package; one: a folder of programs. */
const roomOf = (file: string) =>
  file
    .split('/')
    .slice(0, /^(packages|services)\//.test(file) ? 2 : 1)
    .join('/');

/** A circle in the graph, each member once, or null. */
function circleIn(graph: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const open: string[] = [];
  const visit = (node: string): string[] | null => {
    if (done.has(node)) return null;
    if (open.includes(node)) return open.slice(open.indexOf(node));
    open.push(node);
    for (const next of graph.get(node) ?? []) {
      const found = visit(next);
      if (found !== null) return found;
    }
    open.pop();
    done.add(node);
    return null;
  };
  for (const node of graph.keys()) {
    const found = visit(node);
    if (found !== null) return found;
  }
  return null;
}

/** The imports and includes among these files. */
function graphOf(sources: readonly SourceFile[]): Map<string, string[]> {
  const files = new Set(sources.map(({ file }) => file));
  return new Map(
    sources.map(({ file, imports }) => {
      const isModule = /\.(ts|tsx|mjs)$/.test(file);
      const targets = imports.filter((one) => !isModule || isRelative(one)).map((one) => targetOf(file, one));
      return [file, targets.flatMap((one) => [one, `${one}x`]).filter((one) => files.has(one))];
    }),
  );
}

const packages = await readPackages();
const byName = new Map(packages.map((one) => [one.name, one]));

describe.each(packages)('$folder', ({ folder, dependencies, devDependencies, sources, readme }) => {
  test('imports only packages that it declares, for types as well', () => {
    expect(sources.length).toBeGreaterThan(0);
    const declared = BUNDLED.includes(folder) ? { ...dependencies, ...devDependencies } : dependencies;
    const missing = sources.flatMap(({ file, imports }) =>
      imports
        .filter((one) => !isRelative(one) && /\.(ts|tsx|mjs)$/.test(file) && !isBuiltin(one))
        .filter((one) => !(packageOf(one) in declared))
        .map((one) => `${file}: ${one}`),
    );
    expect(missing).toEqual([]);
  });

  test('has a README that names the packages which it may import', () => {
    expect(readme, `${folder}/README.md, as in the other packages`).not.toBe('');
    const named = /^Imports of our packages: (.*?)\./m.exec(readme)?.[1] ?? '';
    const own = Object.keys(BUNDLED.includes(folder) ? devDependencies : dependencies).filter((one) => byName.has(one));
    expect([...named.matchAll(/`([^`]+)`/g)].map(([, one]) => `@lorasmith/${one}`)).toEqual(own);
  });

  test('imports and includes files of no other package, except headers of one that it declares', () => {
    const foreign = sources.flatMap(({ file, imports }) =>
      imports
        .filter(isRelative)
        .map((one) => targetOf(file, one))
        .filter((target) => roomOf(target) !== folder)
        .filter((target) => {
          const other = packages.find((one) => one.folder === roomOf(target));
          return !/\.(h|cuh)$/.test(target) || other === undefined || !(other.name in dependencies);
        })
        .map((target) => `${file}: ${target}`),
    );
    expect(foreign).toEqual([]);
  });

  test('has no circle of imports', () => {
    expect(circleIn(graphOf(sources))).toBeNull();
  });
});

test('imports between packages have no circle', () => {
  const graph = new Map(
    packages.map(({ name, dependencies }) => [name, Object.keys(dependencies).filter((one) => byName.has(one))]),
  );
  expect(circleIn(graph)).toBeNull();
});

test('no package depends on a service', () => {
  const dependents = packages.filter(({ dependencies }) =>
    Object.keys(dependencies).some((one) => byName.get(one)?.folder.startsWith('services/')),
  );
  expect(dependents.map(({ name }) => name)).toEqual([]);
});

describe.each(Object.keys(PROGRAMS))('%s', (folder) => {
  test('imports only from the folders that it may', async () => {
    const sources = await sourcesIn(folder);
    expect(sources.length).toBeGreaterThan(0);
    const wrong = sources.flatMap(({ file, imports }) =>
      imports
        .filter(isRelative)
        .map((one) => targetOf(file, one))
        .filter((target) => ![folder, ...PROGRAMS[folder]!].includes(target.split('/')[0]!))
        .map((target) => `${file}: ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test('has no circle of imports', async () => {
    expect(circleIn(graphOf(await sourcesIn(folder)))).toBeNull();
  });
});

describe('these checks', () => {
  test('find a circle', () => {
    const graph = new Map([
      ['a', ['b']],
      ['b', ['c']],
      ['c', ['b']],
    ]);
    expect(circleIn(graph)).toEqual(['b', 'c']);
  });

  test('read the imports of types, of side effects and of C++', () => {
    const typescript = "import type { A } from './a.js';\nimport './b.js';\nexport { type C } from './c.js';\n";
    expect([...typescript.matchAll(IMPORT)].map(([, one]) => one)).toEqual(['./a.js', './b.js', './c.js']);
    expect([...'#include <map>\n#include "one.h"\n'.matchAll(INCLUDE)].map(([, one]) => one)).toEqual(['one.h']);
  });
});

test('a command of a clone that is not set up loads no package and nothing compiled before its set-up', async () => {
  const { scripts } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  /** Imports that would not be found, of the file and of all that it loads. */
  const missing = async (file: string, loaded: Set<string>): Promise<string[]> => {
    if (loaded.has(file)) return [];
    loaded.add(file);
    const text = await readFile(path.join(ROOT, file), 'utf8');
    const imports = [...text.matchAll(/^(?:import|export)\b[^'";]*?\bfrom '([^']+)'/gm)].map(([, name]) => name!);
    const ofEach = imports.map(async (name) => {
      if (isBuiltin(name)) return [];
      const target = targetOf(file, name);
      return isRelative(name) && !target.includes('/dist/') ? await missing(target, loaded) : [`${file}: ${name}`];
    });
    return (await Promise.all(ofEach)).flat();
  };
  const programs = Object.values(scripts).flatMap((command) => /\bnode (\S+\.mjs)/.exec(command)?.[1] ?? []);
  expect(programs.length).toBeGreaterThan(20);
  const found = await Promise.all(programs.map((program) => missing(program, new Set())));
  expect(found.flat()).toEqual([]);
});
