import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { list } from 'tar';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cleanCommit, extractSource, packFolder, writeSourceTar } from '../scripts/release/archives.mjs';
import { differences } from '../scripts/release/check-release.mjs';
import { cyclonedx, eachOnce, npmComponent } from '../scripts/release/cyclonedx.mjs';
import { IMAGES } from '../scripts/release/images.mjs';
import { provenance } from '../scripts/release/make-release.mjs';
import { productVersion, setVersion, versionPlaces } from '../scripts/release/versions.mjs';
import { git } from '../scripts/setup/run-command.mjs';

// What of a release needs no Docker: docs/releasing.md. `npm run release -- --check` compares complete releases.

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const run = promisify(execFile);
const COMMITTED = '2026-11-29T12:00:00Z';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-release-test-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A repository with one commit. */
async function repository(): Promise<string> {
  const root = path.join(folder, 'repository');
  await mkdir(path.join(root, 'bin'), { recursive: true });
  await writeFile(path.join(root, 'file.txt'), 'content\n');
  await writeFile(path.join(root, 'bin/program'), '#!/bin/sh\n', { mode: 0o755 });
  const who = { GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@b', GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@b' };
  const env = { ...process.env, ...who, GIT_AUTHOR_DATE: COMMITTED, GIT_COMMITTER_DATE: COMMITTED };
  for (const args of [
    ['init', '-q'],
    ['add', '.'],
    ['commit', '-qm', 'first'],
  ])
    await run('git', args, { cwd: root, env });
  return root;
}

describe('the source of a release', () => {
  test('is a commit without changes', async () => {
    const root = await repository();
    const { commit, epochSeconds } = await cleanCommit(root);
    expect(commit).toBe(await git('-C', root, 'rev-parse', 'HEAD'));
    expect(epochSeconds).toBe(Date.parse(COMMITTED) / 1000);
    await writeFile(path.join(root, 'new.txt'), '');
    await expect(cleanCommit(root)).rejects.toThrow('?? new.txt');
    await rm(path.join(root, 'new.txt'));
    await writeFile(path.join(root, 'file.txt'), 'changed\n');
    await expect(cleanCommit(root)).rejects.toThrow('M file.txt');
    await expect(cleanCommit(folder)).rejects.toThrow('git finds none here');
  });

  test('has the files of the commit, their rights and its time, whatever is in the clone', async () => {
    const root = await repository();
    const { commit } = await cleanCommit(root);
    const [one, other] = [path.join(folder, 'one.tar'), path.join(folder, 'other.tar')];
    await writeSourceTar(root, commit, one);
    await writeFile(path.join(root, 'file.txt'), 'changed\n');
    await writeSourceTar(root, commit, other);
    expect(await readFile(other)).toEqual(await readFile(one));
    const found: [string, number, string][] = [];
    await list({
      file: one,
      onReadEntry: ({ path: name, mode = 0, mtime }) => found.push([name, mode & 0o777, mtime!.toISOString()]),
    });
    const at = new Date(COMMITTED).toISOString();
    expect(found.filter(([name]) => !name.endsWith('/'))).toEqual([
      ['source/bin/program', 0o755, at],
      ['source/file.txt', 0o644, at],
    ]);
    await extractSource(root, commit, path.join(folder, 'extracted'));
    expect(await readFile(path.join(folder, 'extracted/file.txt'), 'utf8')).toBe('content\n');
  });
});

describe('the version of the product', () => {
  test('is the same in every file that names it', async () => {
    const places = await versionPlaces(ROOT);
    const { version } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));
    expect(places.filter((place) => place.version !== version)).toEqual([]);
    expect(await productVersion(ROOT)).toBe(version);
    const dockerfile = await readFile(path.join(ROOT, 'docker/Dockerfile'), 'utf8');
    expect(places.filter(({ file }) => file === 'docker/Dockerfile')).toHaveLength(
      dockerfile.match(/^LABEL /gm)?.length ?? 0,
    );
  });

  test('is set in all of them, and is released once the changelog has it', async () => {
    const copy = path.join(folder, 'copy');
    for (const file of new Set((await versionPlaces(ROOT)).map((place) => place.file))) {
      await cp(path.join(ROOT, file), path.join(copy, file), { recursive: true });
    }
    await writeFile(path.join(copy, 'CHANGELOG.md'), '# Changelog\n\n## 0.1.0, unreleased\n');
    const before = await readFile(path.join(copy, 'packages/client/package.json'), 'utf8');
    await expect(setVersion(copy, 'v2')).rejects.toThrow('v2 is no version');
    await setVersion(copy, '12.3.4-rc.1');
    expect(new Set((await versionPlaces(copy)).map(({ version }) => version))).toEqual(new Set(['12.3.4-rc.1']));
    // Nothing else of the file changes, also where a dependency has the same version.
    const after = await readFile(path.join(copy, 'packages/client/package.json'), 'utf8');
    expect(after.replace('"version": "12.3.4-rc.1"', '"version": "0.1.0"')).toBe(before);
    await expect(productVersion(copy)).rejects.toThrow('CHANGELOG.md has no section');
    await writeFile(path.join(copy, 'CHANGELOG.md'), '# Changelog\n\n## 12.3.4-rc.1, 2026-12-01\n');
    expect(await productVersion(copy)).toBe('12.3.4-rc.1');
    const chart = path.join(copy, 'docker/helm/lorasmith/Chart.yaml');
    await writeFile(chart, (await readFile(chart, 'utf8')).replace('version: 12.3.4-rc.1', 'version: 1.0.0'));
    await expect(productVersion(copy)).rejects.toThrow('docker/helm/lorasmith/Chart.yaml 1.0.0');
  });
});

test('a folder is packed to the same bytes from other places and times, with what its links point to', async () => {
  const pack = async (name: string, when: Date) => {
    const chart = path.join(folder, name, 'lorasmith');
    await cp(path.join(ROOT, 'docker/helm/lorasmith'), chart, { recursive: true, dereference: true });
    await writeFile(path.join(folder, name, 'alerts.yml'), 'groups: []\n');
    await rm(path.join(chart, 'files/alerts.yml'));
    await symlink('../../alerts.yml', path.join(chart, 'files/alerts.yml'));
    await utimes(path.join(chart, 'Chart.yaml'), when, when);
    const file = path.join(folder, `${name}.tgz`);
    await packFolder(chart, file, 1_700_000_000);
    return file;
  };
  const one = await pack('one', new Date(1_600_000_000_000));
  const other = await pack('other', new Date(1_650_000_000_000));
  expect(await readFile(other)).toEqual(await readFile(one));
  const found: Record<string, { kind: string; seconds: number }> = {};
  await list({
    file: one,
    onReadEntry: ({ path: name, type, mtime }) => {
      found[name] = { kind: type, seconds: mtime!.getTime() / 1000 };
    },
  });
  expect(found['lorasmith/files/alerts.yml']).toEqual({ kind: 'File', seconds: 1_700_000_000 });
  expect(new Set(Object.values(found).map(({ seconds }) => seconds))).toEqual(new Set([1_700_000_000]));
});

test('a list of contents names each package once, with its license', () => {
  const packages = [
    { name: 'zod', version: '2.0.0', license: 'MIT' },
    { name: '@scope/one', version: '1.0.0', license: 'MIT OR Apache-2.0' },
    { name: 'zod', version: '2.0.0', license: 'MIT' },
    { name: 'mine', version: '1.0.0', license: 'UNLICENSED' },
  ];
  const components = eachOnce(packages.map(npmComponent));
  expect(components.map(({ purl, licenses }) => [purl, licenses])).toEqual([
    ['pkg:npm/%40scope/one@1.0.0', [{ expression: 'MIT OR Apache-2.0' }]],
    ['pkg:npm/mine@1.0.0', [{ license: { name: 'UNLICENSED' } }]],
    ['pkg:npm/zod@2.0.0', [{ license: { id: 'MIT' } }]],
  ]);
  const subject = { type: 'library', name: 'subject', version: '1.0.0' } as const;
  const document = JSON.parse(cyclonedx(subject, components));
  expect(document).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5', metadata: { component: subject } });
  expect(document.components[0]['bom-ref']).toBe('pkg:npm/%40scope/one@1.0.0');
});

test('provenance names every file with its digest, the commit, and the images below', () => {
  const statement = JSON.parse(
    provenance({
      subjects: [{ name: 'a.tgz', digest: 'aa' }],
      version: '1.0.0',
      commit: 'c0ffee',
      lockfiles: [{ name: 'pnpm-lock.yaml', sha256: 'bb' }],
      baseImages: { NODE_IMAGE: 'example.com:5000/node:24@sha256:cc' },
      tools: { node: '24.0.0' },
    }),
  );
  expect(statement.subject).toEqual([{ name: 'a.tgz', digest: { sha256: 'aa' } }]);
  expect(statement.predicate.buildDefinition.resolvedDependencies).toEqual([
    { uri: 'pkg:generic/lorasmith@1.0.0', digest: { gitCommit: 'c0ffee' } },
    { uri: 'file:pnpm-lock.yaml', digest: { sha256: 'bb' } },
    { uri: 'docker-image:example.com:5000/node:24', digest: { sha256: 'cc' } },
  ]);
});

test('two releases are compared by file, layer and tool', () => {
  const release = (sha256: string, layer: string, node: string) => ({
    ...{ version: '1.0.0', commit: 'c0ffee', committed_at: COMMITTED, not_built: [], base_images: {}, tools: { node } },
    files: [{ name: 'a.tgz', bytes: 1, sha256 }],
    images: [
      {
        ...{ name: 'api', file: 'api.tar', digest: 'sha256:d' },
        platforms: [{ platform: 'linux/amd64', digest: 'sha256:d', layers: ['sha256:base', layer] }],
      },
    ],
  });
  expect(differences(release('aa', 'sha256:x', '20.1.0'), release('aa', 'sha256:x', '20.1.0'))).toEqual([]);
  expect(differences(release('aa', 'sha256:x', '20.1.0'), release('bb', 'sha256:y', '24.0.0'))).toEqual([
    'it was built with node 20.1.0, and here with 24.0.0',
    'a.tgz: aa, again bb',
    'api linux/amd64, layer 2 of 2: sha256:x, again sha256:y',
  ]);
});

test('the images of a release are those of the Dockerfile', async () => {
  const dockerfile = await readFile(path.join(ROOT, 'docker/Dockerfile'), 'utf8');
  const titles = [...dockerfile.matchAll(/image\.title="lorasmith-(.+)"/g)].map(([, name]) => name);
  expect(Object.keys(IMAGES)).toEqual(titles);
});
