import type { JobRequest } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { curlCommand } from './curl-command.js';
import { draftOf, requestOf } from './draft.js';
import { jobFields } from './job-fields.js';

const fields = jobFields();
const MODEL = { base_model: 'tiny', dataset: 'ds_0123456789abcdef01234567' };

test('a draft becomes a request; empty fields are left out', () => {
  const request = requestOf(fields, {
    ...MODEL,
    name: ' ',
    'lora.r': '16',
    'lora.target_modules': 'q_proj, k_proj',
    'lora.layers_to_transform': '0, 2',
    'lora.rank_pattern': '{"q_proj": 4}',
    'lora.use_rslora': 'true',
    'training.learning_rate': '5e-4',
    'training.max_grad_norm': 'null',
    'training.early_stopping.patience': '3',
    'samples.prompts': 'Say 3.\n\n[{"role":"user","content":"Say\\n4."}]',
    metadata: '{"team":"a"}',
    tags: ' dates, 2026,, dates',
    note: 'With the\ncorrected rows. ',
  });
  const expected: JobRequest = {
    ...MODEL,
    lora: {
      r: 16,
      target_modules: ['q_proj', 'k_proj'],
      layers_to_transform: [0, 2],
      rank_pattern: { q_proj: 4 },
      use_rslora: true,
    },
    training: { learning_rate: 5e-4, max_grad_norm: null, early_stopping: { patience: 3 } },
    samples: { prompts: ['Say 3.', [{ role: 'user', content: 'Say\n4.' }]] },
    metadata: { team: 'a' },
    tags: ['dates', '2026'],
    note: 'With the\ncorrected rows.',
  };
  expect(request).toEqual(expected);
  expect(requestOf(fields, draftOf(fields, request))).toEqual(request);
});

test.each([
  ['all-linear', 'all-linear'],
  ['q_proj', ['q_proj']],
  ['["a","b"]', ['a', 'b']],
  ['.*layers\\.[01]\\..*(q|v)_proj', '.*layers\\.[01]\\..*(q|v)_proj'],
])('the target modules %s', (text, value) => {
  expect(requestOf(fields, { 'lora.target_modules': text })).toEqual({ lora: { target_modules: value } });
});

test('what does not fit is sent as it is, so that the service says what is wrong', () => {
  expect(requestOf(fields, { 'lora.r': 'many', metadata: '{' })).toEqual({ lora: { r: 'many' }, metadata: '{' });
});

test('a draft of a job has only what differs from the defaults', () => {
  const job = {
    ...MODEL,
    priority: 'normal',
    name: 'dates',
    lora: { r: 8, target_modules: 'all-linear', rank_pattern: {}, init_from: null },
    training: { epochs: 3, learning_rate: 1e-3, early_stopping: null, checkpoint_every_steps: null },
    samples: null,
    metadata: {},
    tags: [],
  };
  expect(draftOf(fields, job)).toEqual({
    ...MODEL,
    name: 'dates',
    'training.learning_rate': '0.001',
    'training.checkpoint_every_steps': 'null',
  });
});

test('an empty list in a draft of a job is not its default', () => {
  const draft = draftOf(fields, {
    ...MODEL,
    lora: { target_modules: [], target_parameters: ['mlp.experts.down_proj'] },
  });
  expect(draft).toEqual({ ...MODEL, 'lora.target_modules': '[]', 'lora.target_parameters': 'mlp.experts.down_proj' });
  expect(requestOf(fields, draft).lora).toEqual({ target_modules: [], target_parameters: ['mlp.experts.down_proj'] });
});

test('the command for curl quotes what others wrote, and has no key', () => {
  const request = { ...MODEL, name: `it's "$(reboot)"` };
  expect(curlCommand('http://127.0.0.1:8080/jobs', request, true)).toBe(
    [
      `curl 'http://127.0.0.1:8080/jobs' \\`,
      `  -H "authorization: Bearer $LORASMITH_API_KEY" \\`,
      `  -H 'content-type: application/json' \\`,
      `  -d '{"base_model":"tiny","dataset":"ds_0123456789abcdef01234567","name":"it'\\''s \\"$(reboot)\\""}'`,
    ].join('\n'),
  );
  expect(curlCommand('http://127.0.0.1:8080/jobs', request, false)).not.toContain('authorization');
});
