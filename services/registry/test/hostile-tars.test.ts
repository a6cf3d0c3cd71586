import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import {
  config,
  MAX_BYTES,
  nothingIsLeft,
  peftFiles,
  post,
  root,
  url,
  useImportingRegistry,
} from './importing-registry.js';
import { pax, type RawEntry, tarOf } from './tar-bytes.js';

useImportingRegistry();

describe('a hostile or broken tar', () => {
  const link = { name: 'adapter_config.json', type: '2', link: '/etc/passwd' };
  const huge = Buffer.concat([Buffer.from([0x80]), Buffer.alloc(3), Buffer.alloc(8, 0xff)]);
  const negative = Buffer.alloc(12, 0xff);
  const cases: [name: string, entries: () => RawEntry[]][] = [
    ['an absolute path', () => [...peftFiles(), { name: '/etc/cron.d/x', content: 'x' }]],
    ['a drive', () => [...peftFiles(), { name: 'C:/x', content: 'x' }]],
    ['a path with ..', () => [...peftFiles(), { name: '../../x', content: 'x' }]],
    ['a path with .. in the middle', () => [{ name: 'a/../../adapter_config.json', content: config }, peftFiles()[1]!]],
    ['backslashes', () => [...peftFiles(), { name: '..\\..\\x', content: 'x' }]],
    ['a symbolic link in place of a file', () => [link, peftFiles()[1]!]],
    ['a hard link', () => [...peftFiles(), { name: 'x', type: '1', link: 'adapter_config.json' }]],
    ['a link without a target', () => [...peftFiles(), { name: 'x', type: '2' }]],
    ['a character device', () => [...peftFiles(), { name: 'x', type: '3' }]],
    ['a block device', () => [...peftFiles(), { name: 'x', type: '4' }]],
    ['a pipe', () => [...peftFiles(), { name: 'x', type: '6' }]],
    ['a sparse file', () => [...peftFiles(), { name: 'x', type: 'S', content: 'x' }]],
    ['an unknown type', () => [...peftFiles(), { name: 'x', type: 'Z', content: 'x' }]],
    ['a config twice', () => [...peftFiles(), peftFiles()[0]!]],
    [
      'weights twice, in two folders',
      () => [...peftFiles(), { ...peftFiles()[1]!, name: 'b/adapter_model.safetensors' }],
    ],
    ['a size beyond the end', () => [peftFiles()[0]!, { ...peftFiles()[1]!, size: 2 ** 30 }]],
    ['a size of 2^63', () => [...peftFiles(), { name: 'x', size: huge }]],
    ['a negative size', () => [...peftFiles(), { name: 'x', size: negative }]],
    ['a size that ends too early', () => [peftFiles()[0]!, { ...peftFiles()[1]!, size: 700 }]],
    ['a config that is too large', () => [{ name: 'adapter_config.json', size: 5 * 2 ** 20 }, peftFiles()[1]!]],
    ['a wrong checksum', () => [peftFiles()[0]!, { ...peftFiles()[1]!, badChecksum: true }]],
    ['an absolute path in a pax header', () => [...peftFiles(), pax({ path: '/etc/x' }), { name: 'x', content: 'x' }]],
    ['a path with .. in a pax header', () => [...peftFiles(), pax({ path: 'a/../../x' }), { name: 'x', content: 'x' }]],
    [
      'a link made by a pax header',
      () => [...peftFiles(), pax({ linkpath: '/etc' }), { name: 'x', type: '2', link: 'y' }],
    ],
    ['a false size in a pax header', () => [peftFiles()[0]!, pax({ size: '99999999999' }), peftFiles()[1]!]],
    [
      'a pax header that duplicates a file',
      () => [...peftFiles(), pax({ path: 'adapter_config.json' }), { name: 'x', content: '{}' }],
    ],
    ['a pax header that is too long', () => [pax({ comment: 'x'.repeat(100_000) }), ...peftFiles()]],
    [
      'a long name with ..',
      () => [...peftFiles(), { name: '././@LongLink', type: 'L', content: '../x\0' }, { name: 'x' }],
    ],
    ['too many entries', () => [...peftFiles(), ...Array.from({ length: 1100 }, (_, i) => ({ name: `f${i}` }))]],
    ['no config', () => [peftFiles()[1]!]],
    ['no weights', () => [peftFiles()[0]!]],
    ['pickled weights', () => [peftFiles()[0]!, { name: 'adapter_model.bin', content: 'x' }]],
    ['files too deep', () => peftFiles().map((file) => ({ ...file, name: `a/b/${file.name}` }))],
    ['a folder with the name of the config', () => [{ name: 'adapter_config.json', type: '5' }, peftFiles()[1]!]],
    ['no entries', () => []],
  ];

  test.each(cases)('%s', async (name, entries) => {
    const { status, body } = await post(tarOf(entries()));
    // An empty tar is two blocks of zeros, without the magic of a tar.
    const expected = name === 'no entries' ? [415, 'unsupported_media_type'] : [422, 'invalid_adapter'];
    expect([status, body.error.code]).toEqual(expected);
    expect(body.error.message).not.toContain(root);
    await nothingIsLeft();
  });

  test.each([
    ['gzip', () => gzipSync(tarOf(peftFiles()))],
    ['zip', () => Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(600)])],
    ['zstd', () => Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.alloc(600)])],
    ['text', () => Buffer.from('{"not": "a tar"}')],
    ['nothing', () => Buffer.alloc(0)],
    ['zeros', () => Buffer.alloc(2048)],
  ])('%s is 415', async (_, bytes) => {
    expect(await post(bytes())).toMatchObject({ status: 415, body: { error: { code: 'unsupported_media_type' } } });
    await nothingIsLeft();
  });

  test('another content type or encoding is 415', async () => {
    for (const headers of [{ 'content-type': 'application/json' }, { 'content-encoding': 'gzip' }]) {
      expect(await post(tarOf(peftFiles()), '?base_model=llama-tied', headers as Record<string, string>)).toMatchObject(
        {
          status: 415,
        },
      );
    }
    await nothingIsLeft();
  });

  test('truncated anywhere, it is refused', async () => {
    const tar = tarOf(peftFiles());
    for (const bytes of [200, 300, 512, 700, 1024, 3000, 9000]) {
      const { status, body } = await post(tar.subarray(0, bytes));
      expect([bytes, status, body.error.code]).toEqual(
        // The magic of a tar is in bytes 257 to 261.
        bytes < 262 ? [bytes, 415, 'unsupported_media_type'] : [bytes, 422, 'invalid_adapter'],
      );
    }
    await nothingIsLeft();
  });

  test('larger than the limit is 413, with and without a declared length', async () => {
    const large = tarOf([...peftFiles(), { name: 'x', content: Buffer.alloc(MAX_BYTES) }]);
    expect(await post(large)).toMatchObject({ status: 413, body: { error: { code: 'body_too_large' } } });
    async function* pieces() {
      for (let at = 0; at < large.length; at += 65_536) yield large.subarray(at, at + 65_536);
    }
    const response = await fetch(`${url}/adapters?base_model=llama-tied`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-tar' },
      body: ReadableStream.from(pieces()),
      duplex: 'half',
    } as RequestInit);
    expect(response.status).toBe(413);
    await response.arrayBuffer();
    await nothingIsLeft();
  });

  test('a sender that disconnects leaves no files', async () => {
    const disconnect = new AbortController();
    const tar = tarOf(peftFiles());
    async function* half() {
      yield tar.subarray(0, 5000);
      setTimeout(() => disconnect.abort(), 100);
      await new Promise(() => {});
    }
    const sending = fetch(`${url}/adapters?base_model=llama-tied`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-tar' },
      body: ReadableStream.from(half()),
      duplex: 'half',
      signal: disconnect.signal,
    } as RequestInit);
    await expect(sending).rejects.toThrow();
    await expect.poll(() => readdir(join(root, 'data/.staging'))).toEqual([]);
    await nothingIsLeft();
  });
});
