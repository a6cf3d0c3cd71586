import { expect, test } from 'vitest';
import { checkWebhooksOf, checkWebhookUrl, isPublicAddress, type WebhookConfig } from './webhook-config.js';

const CONFIG: WebhookConfig = { url: null, secret: 'whsec_x', allowPrivate: false };
const graded = (url: string) => ({
  objective: { kind: 'group-relative' as const, grader: { type: 'webhook' as const, url } },
});

test('a job without webhooks, and one with public ones, are taken', () => {
  checkWebhooksOf({ objective: { kind: 'preference' } }, { ...CONFIG, secret: null });
  checkWebhooksOf({ ...graded('https://grader.example/'), webhook: { url: 'https://example.com/' } }, CONFIG);
  checkWebhooksOf(graded('http://127.0.0.1:9000/'), { ...CONFIG, allowPrivate: true });
});

test.each([
  [{ webhook: { url: 'https://10.0.0.1/' } }, CONFIG, 'webhook.url', 'private network'],
  [graded('https://10.0.0.1/'), CONFIG, 'objective.grader.url', 'private network'],
  [graded('http://grader.example/'), CONFIG, 'objective.grader.url', 'https://'],
  [graded('https://grader.example/'), { ...CONFIG, secret: null }, 'objective.grader', 'Use another grader.'],
  [{ webhook: { url: 'https://example.com/' } }, { ...CONFIG, secret: null }, 'webhook', 'Leave webhook out.'],
])('%o with %o is refused at %s', (request, config, param, message) => {
  expect(() => checkWebhooksOf(request, config)).toThrow(
    expect.objectContaining({ code: 'invalid_job', param, message: expect.stringContaining(message) }),
  );
});

test.each([
  ['0.0.0.0', false],
  ['10.1.2.3', false],
  ['100.64.0.1', false],
  ['100.128.0.1', true],
  ['127.0.0.1', false],
  ['127.255.255.255', false],
  ['169.254.169.254', false],
  ['172.15.255.255', true],
  ['172.16.0.1', false],
  ['172.31.255.255', false],
  ['172.32.0.1', true],
  ['192.168.0.1', false],
  ['198.18.0.1', false],
  ['203.0.113.7', false],
  ['224.0.0.1', false],
  ['255.255.255.255', false],
  ['8.8.8.8', true],
  ['::', false],
  ['::1', false],
  ['fe80::1', false],
  ['fc00::1', false],
  ['fd12:3456::1', false],
  ['ff02::1', false],
  ['::ffff:127.0.0.1', false],
  ['::ffff:8.8.8.8', false],
  ['::ffff:7f00:1', false],
  ['64:ff9b::7f00:1', false],
  ['2002:7f00:1::', false],
  ['2001:0:4136:e378::1', false],
  ['2001:db8::1', false],
  ['2606:4700::1111', true],
  ['not an address', false],
])('%s is public: %s', (address, expected) => {
  expect(isPublicAddress(address)).toBe(expected);
});

test.each([
  'https://example.com/hook?token=x',
  'https://example.com:8443/',
  'https://8.8.8.8/',
  'https://[2606:4700::1111]/x',
])('%s is accepted', (url) => {
  expect(checkWebhookUrl(url, { allowPrivate: false }).href).toBe(url);
});

test.each([
  ['example.com/hook', 'is not a URL'],
  ['http://example.com/', 'must start with https://'],
  ['ftp://example.com/', 'must start with https://'],
  ['file:///etc/passwd', 'must start with https://'],
  ['javascript:alert(1)', 'must start with https://'],
  ['https://user@example.com/', 'user name'],
  ['https://user:pass@example.com/', 'user name'],
  ['https://example.com/#x', 'fragment'],
  ['https://example.com:22/', 'port'],
  ['https://example.com:0/', 'port'],
  ['https://127.0.0.1/', 'private network'],
  ['https://2130706433/', 'private network'],
  ['https://0x7f.1/', 'private network'],
  ['https://0177.0.0.1/', 'private network'],
  ['https://127.1/', 'private network'],
  ['https://１２７.0.0.1/', 'private network'],
  ['https://[::1]/', 'private network'],
  ['https://[::ffff:127.0.0.1]/', 'private network'],
  ['https://[::ffff:7f00:1]/', 'private network'],
  ['https://169.254.169.254/latest/meta-data', 'private network'],
  ['https://localhost/', 'private network'],
  ['https://LOCALHOST./', 'private network'],
  ['https://x.localhost/', 'private network'],
  ['https://redis/', 'private network'],
  ['https://api.internal/', 'private network'],
  ['https://printer.local/', 'private network'],
])('%s is refused: %s', (url, why) => {
  expect(() => checkWebhookUrl(url, { allowPrivate: false })).toThrow(
    expect.objectContaining({ code: 'invalid_job', param: 'webhook.url', message: expect.stringContaining(why) }),
  );
});

test('private addresses and http are accepted where they are allowed, user names are not', () => {
  for (const url of ['http://127.0.0.1:8000/', 'https://localhost/', 'http://receiver:9000/']) {
    expect(checkWebhookUrl(url, { allowPrivate: true }).href).toBe(url);
  }
  expect(() => checkWebhookUrl('http://a:b@127.0.0.1/', { allowPrivate: true })).toThrow('user name');
});
