import { Readable } from 'node:stream';
import { expect, it, onTestFinished } from 'vitest';
import { openaiJob, startOpenaiServer } from '../../../../test/openai-server.js';
import { type Answer, json, serve } from '../../test/http-server.js';
import { EXIT, runCommandLine } from './run-command-line.js';

// The whole way, with the real service, is in test/openai-import.test.ts.

const EMPTY = { data: [], has_more: false, next: null, total: 0 };

/** Answers as a service without jobs and datasets does, that has a base model. */
const emptyService: Answer = (response, request) =>
  json(200, request.url.startsWith('/models/') ? { name: 'm', max_positions: 512 } : EMPTY)(response, request);

async function imported(args: string[], typed = '') {
  const openai = await startOpenaiServer();
  onTestFinished(openai.close);
  openai.files.set('file-train', { filename: 'support.jsonl', content: '{}\n' });
  openai.jobs = [
    openaiJob('ftjob-3', { training_file: 'file-gone' }),
    openaiJob('ftjob-2', { status: 'failed', fine_tuned_model: null }),
    openaiJob('ftjob-1'),
  ];
  const server = await serve(emptyService);
  const written = { output: '', errorOutput: '' };
  const exitCode = await runCommandLine({
    args: ['import-openai', '--base-model', 'm', ...args],
    version: '1.2.3',
    baseUrl: server.baseUrl,
    serverKey: 'sk-test-key',
    openaiUrl: openai.baseUrl,
    input: Object.assign(Readable.from([typed]), { isTTY: true }),
    output: { write: (text: string) => (written.output += text) },
    errorOutput: { write: (text: string) => (written.errorOutput += text) },
    signal: new AbortController().signal,
  });
  return { exitCode, ...written, methods: server.requests.map(({ method }) => method) };
}

it('shows the plans, oldest first, with what differs and what is gone', async () => {
  const { exitCode, output } = await imported(['--dry-run']);
  expect(output.split('\n')).toEqual([
    'ftjob-1  ft:gpt-4o-mini-2024-07-18:acme:support:ob-1',
    '  file-train (support.jsonl, 3 bytes)',
    '  method supervised, n_epochs 3, batch_size 1, learning_rate 0.00018, seed 683058546, name support',
    '  differs: It was trained on gpt-4o-mini-2024-07-18; here it is trained on m.',
    '  differs: learning_rate_multiplier 1.8 is a rate of 0.00018 here (times 0.0001): there it multiplied a rate that is not published.',
    'ftjob-2  gpt-4o-mini-2024-07-18',
    '  skipped: its status is failed',
    'ftjob-3  ft:gpt-4o-mini-2024-07-18:acme:support:ob-3',
    '  file-gone',
    '  method supervised, n_epochs 3, batch_size 1, learning_rate 0.00018, seed 683058546, name support',
    '  differs: It was trained on gpt-4o-mini-2024-07-18; here it is trained on m.',
    '  differs: learning_rate_multiplier 1.8 is a rate of 0.00018 here (times 0.0001): there it multiplied a rate that is not published.',
    expect.stringMatching(
      /^ {2}openai_gone: http:\S+ no longer has the file file-gone: it was deleted, has expired or was retired\.$/,
    ),
    '1 job can be posted, 1 skipped, which have not succeeded there (--job ID imports one), 1 cannot be posted',
    '',
  ]);
  expect(exitCode).toBe(EXIT.failed);
});

it('posts nothing after a no', async () => {
  const { errorOutput, output, methods } = await imported([], 'n\n');
  expect(errorOutput).toBe('Post 1 job? [Y/n] ');
  expect(output).toMatch(/\n1 job can be posted, /);
  expect(new Set(methods)).toEqual(new Set(['GET']));
});

it('prints the plans as JSON', async () => {
  const { output } = await imported(['--dry-run', '--json', '--job', 'ftjob-1']);
  expect(JSON.parse(output)).toMatchObject({
    type: 'import-ended',
    dry_run: true,
    planned: 1,
    jobs: [{ id: 'ftjob-1', outcome: 'planned', base_model: 'm', training_file: { id: 'file-train', bytes: 3 } }],
  });
});
