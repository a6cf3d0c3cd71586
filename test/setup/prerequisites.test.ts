import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkSetUpByOwner } from '../../scripts/setup/prerequisites.mjs';

// A checkout that this user may not write: set up by its owner, it runs; otherwise one line says what the owner must do.

let checkout: string;
beforeEach(async () => {
  checkout = await mkdtemp(path.join(tmpdir(), 'lorasmith-checkout-'));
});
afterEach(() => rm(checkout, { recursive: true, force: true }));

async function write(file: string) {
  await mkdir(path.dirname(path.join(checkout, file)), { recursive: true });
  await writeFile(path.join(checkout, file), '');
}
const LIBRARIES = 'packages/tensor/node_modules/@tensorflow/tfjs-node-gpu/deps/lib';

async function setUpByOwner() {
  await write('node_modules/.lorasmith-install');
  for (const service of ['api', 'worker', 'registry']) await write(`services/${service}/dist/main.js`);
  await mkdir(path.join(checkout, LIBRARIES), { recursive: true });
}

test('one that its owner has set up is run', async () => {
  await setUpByOwner();
  await write('cache/libtensorflow.so');
  await symlink(path.join(checkout, 'cache/libtensorflow.so'), path.join(checkout, LIBRARIES, 'libtensorflow.so'));
  expect(checkSetUpByOwner(checkout)).toBeUndefined();
});

test('one that is not set up is refused with what its owner must do', () => {
  expect(() => checkSetUpByOwner(checkout)).toThrow(/cannot be written by this user, and is not set up \(node_modules/);
});

test('one whose libraries are in a cache that this user cannot read is refused with where they could be', async () => {
  await setUpByOwner();
  await symlink('/root-of-another-user/libtensorflow.so', path.join(checkout, LIBRARIES, 'libtensorflow.so'));
  expect(() => checkSetUpByOwner(checkout)).toThrow(
    expect.objectContaining({
      message: expect.stringContaining('cache this user cannot read'),
      remedy: expect.stringContaining('LORASMITH_CACHE_DIR'),
    }),
  );
});
