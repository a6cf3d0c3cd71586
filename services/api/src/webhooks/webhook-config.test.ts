import { expect, test } from 'vitest';
import { checkWebhooksOf, type WebhookConfig } from './webhook-config.js';

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
