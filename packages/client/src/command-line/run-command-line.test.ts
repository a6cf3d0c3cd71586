import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { isPrintable } from '@lorasmith/contracts';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Answer, failure, json, serve } from '../../test/http-server.js';
import { lora } from '../../test/run-lora.js';
import { JOB_FLAGS } from './job-flags.js';
import { EXIT, runCommandLine } from './run-command-line.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorasmith-cli-'));
});
afterEach(() => rm(folder, { recursive: true }));

const bodyOf = (requests: { body: string }[]) => JSON.parse(requests[0]?.body ?? 'null') as unknown;

describe('lora', () => {
  it('prints its usage, and fails on an unknown command', async () => {
    expect(await lora(['--help'])).toMatchObject({
      exitCode: EXIT.done,
      output: expect.stringContaining('jobs create'),
    });
    expect(await lora(['job', 'crate'])).toMatchObject({ exitCode: EXIT.misused, output: '' });
    const help = await lora(['jobs', 'create', '--help']);
    expect(help.exitCode).toBe(EXIT.done);
    for (const { flag } of JOB_FLAGS) expect(help.output).toContain(`--${flag}`);
  });

  it('says what is wrong with a command that it does not have', async () => {
    const unknown = await lora(['job', 'crate']);
    expect(unknown.errorOutput).toMatch(/^There is no command "lora job"\. There are:\n[\s\S]* {2}jobs create/);
    const known = await lora(['jobs', 'crate', '--watch']);
    expect(known.errorOutput).toMatch(/^There is no command "lora jobs crate"\. There are:\n[\s\S]* {2}jobs create/);
    expect(known.errorOutput).not.toContain('models');
    expect((await lora(['jobs'])).errorOutput).toMatch(/^lora jobs needs one more word\. There are:\n/);
    expect(await lora(['--json'])).toMatchObject({
      exitCode: EXIT.misused,
      errorOutput: expect.stringMatching(/^A command comes first: lora COMMAND --json\n/),
    });
    const help = await lora(['jobs', '--help']);
    expect([help.exitCode, help.output.includes('models')]).toEqual([EXIT.done, false]);
  });

  it.each([
    [['jobs', 'watch'], 'lora jobs watch needs ID.'],
    [['chat'], 'lora chat needs MODEL and PROMPT.'],
    [['chat', 'ad_1'], 'lora chat needs PROMPT.'],
    [['datasets', 'upload', 'a', 'b'], 'lora datasets upload takes only FILE; what is "b"?'],
    [['jobs', 'list', 'a'], 'lora jobs list takes no argument; what is "a"?'],
    [
      ['jobs', 'list', '--limits', '3'],
      "Unknown option '--limits'. Did you mean --limit? Its options: lora jobs list --help",
    ],
    [['jobs', 'create', '--model'], "Option '--model NAME' argument missing. Its options: lora jobs create --help"],
  ])('says what is wrong with the arguments of %j', async (args, fault) => {
    const { exitCode, errorOutput } = await lora(args);
    expect([exitCode, errorOutput.split('\n')[0]]).toEqual([EXIT.misused, fault]);
  });

  it('takes options before the command, and help as a word', async () => {
    const page = { object: 'list', data: [], has_more: false, next: null };
    for (const args of [
      ['--json', 'jobs', 'list', '--limit', '5'],
      ['--json', '--limit', '5', 'jobs', 'list'],
      ['jobs', 'list', '--limit', '5', '--json'],
      ['--limit=5', 'jobs', 'list', '--json'],
    ]) {
      const { exitCode, output, requests } = await lora(args, json(200, page));
      expect([exitCode, requests[0]?.url, JSON.parse(output)]).toEqual([EXIT.done, '/jobs?limit=5', page]);
    }
    const elsewhere = await serve(json(200, page));
    await lora(['--url', elsewhere.baseUrl, 'jobs', 'list']);
    expect(elsewhere.requests).toHaveLength(1);
    const shown = await lora(['jobs', 'show', '--help']);
    for (const args of [
      ['help', 'jobs', 'show'],
      ['--help', 'jobs', 'show'],
      ['jobs', 'show', '-h'],
    ]) {
      expect(await lora(args)).toMatchObject({ exitCode: EXIT.done, output: shown.output });
    }
  });

  it('has a help of 100 columns with groups, a word for each value, and no option twice', async () => {
    const { output: all } = await lora(['--help']);
    const names = [...all.matchAll(/^ {2}([a-z][a-z- ]*?)(?: [A-Z/]+)* {2,}\S/gm)].map(([, name = '']) => name.trim());
    expect(names.length).toBeGreaterThan(35);
    expect(new Set(names).size).toBe(names.length);
    for (const heading of [
      'Training:',
      'Jobs:',
      'Sweeps:',
      'Datasets:',
      'Adapters:',
      'Text:',
      'Base models:',
      'Service:',
    ]) {
      expect(all.split('\n').filter((line) => line === heading)).toEqual([heading]);
    }
    for (const name of ['', ...names]) {
      const { output, exitCode } = await lora([...name.split(' ').filter(Boolean), '--help']);
      expect([name, exitCode]).toEqual([name, EXIT.done]);
      expect(output.split('\n').filter((line) => [...line].length > 100)).toEqual([]);
      const options = [...output.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, option]) => option);
      expect([name, options.filter((option, index) => options.indexOf(option) !== index)]).toEqual([name, []]);
    }
    const { output } = await lora(['train', '--help']);
    expect(output).toMatch(/^ {2}--learning-rate X +\S/m);
    expect(output).toMatch(/^ {2}--lr-scheduler constant\|linear\|cosine +\S/m);
    expect(output).toMatch(/^ {2}-o, --out PATH +folder/m);
    expect(output).toMatch(
      /^LoRA:\n {2}--r N[\s\S]*^Training:\n {2}--epochs[\s\S]*^Objective:\n[\s\S]*^Of every command:\n/m,
    );
  });

  it.each([
    [undefined, /LORASMITH_API_KEY, which is not set: export LORASMITH_API_KEY=lsk_…\n$/],
    ['lsk_1', /lora has sent the key of the variable LORASMITH_API_KEY\.\n$/],
  ])('names the variable of the key when the api refuses %j', async (apiKey, named) => {
    const server = await serve(failure(401, 'unauthorized'));
    let errorOutput = '';
    const exitCode = await runCommandLine({
      args: ['jobs', 'list'],
      version: '1.2.3',
      baseUrl: server.baseUrl,
      apiKey,
      input: Readable.from([]),
      output: { write: () => {} },
      errorOutput: { write: (text: string) => (errorOutput += text) },
      signal: new AbortController().signal,
    });
    expect([exitCode, errorOutput]).toEqual([EXIT.failed, expect.stringMatching(named)]);
    expect(errorOutput).toMatch(/^unauthorized: /);
  });

  it('prints its version', async () => {
    expect(await lora(['--version'])).toMatchObject({ exitCode: EXIT.done, output: '1.2.3\n' });
  });

  it('fails on missing arguments and unknown options before any request', async () => {
    for (const args of [
      ['jobs', 'watch'],
      ['datasets', 'upload', 'a', 'b'],
      ['jobs', 'list', '--limits', '3'],
    ]) {
      const { exitCode, errorOutput, requests } = await lora(args, json(200, {}));
      expect(exitCode).toBe(EXIT.misused);
      expect(errorOutput).not.toBe('');
      expect(requests).toHaveLength(0);
    }
  });

  it('shows nothing of a name or a message that changes what else is on the terminal', async () => {
    const hostile = 'a\u001b[2J\r\u009b2K\u202e\u2028b\nc';
    const shown = /a\[2J2Kb c/;
    const job = { id: `job_${'0'.repeat(24)}`, name: hostile, base_model: 'm', status: 'queued', adapter: null };
    const page = { object: 'list', data: [job], has_more: false, next: null };
    const listed = await lora(['jobs', 'list'], json(200, page));
    expect(listed.output).toMatch(shown);
    const asJson = await lora(['jobs', 'list', '--json'], json(200, page));
    expect(JSON.parse(asJson.output)).toEqual(page);
    const error = { code: 'invalid_request', message: hostile, param: null, request_id: 'req_1', details: [] };
    const failed = await lora(['jobs', 'list'], json(400, { error }));
    expect(failed.errorOutput).toContain('a[2J2Kb');
    for (const text of [listed.output, asJson.output, failed.errorOutput]) {
      expect(isPrintable(text.replaceAll('\n', ''))).toBe(true);
    }
  });

  it('shows an answer that begins like a redrawn line without its escape sequence', async () => {
    const choices = [{ index: 0, delta: { content: '\r\u001b[2Kgone' }, finish_reason: null }];
    const { output } = await lora(['chat', 'm', 'Hello'], (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(`data: ${JSON.stringify({ choices })}\n\ndata: [DONE]\n\n`);
    });
    expect(output).toBe('[2Kgone\n');
  });

  it('reads a text from the input until it ends, or Ctrl-C', async () => {
    const interruption = new AbortController();
    const terminal = new PassThrough();
    const written = { output: '', errorOutput: '' };
    const running = runCommandLine({
      args: ['chat', 'm', '-'],
      version: '1.2.3',
      baseUrl: 'http://127.0.0.1:9',
      input: terminal,
      output: { write: (text: string) => (written.output += text) },
      errorOutput: { write: (text: string) => (written.errorOutput += text) },
      signal: interruption.signal,
    });
    terminal.write('Half a quest');
    await new Promise((resolve) => setImmediate(resolve));
    interruption.abort();
    expect(await running).toBe(EXIT.interrupted);
    expect(written).toEqual({ output: '', errorOutput: '' });
  });

  it('says what is wrong with a request file that is no object', async () => {
    const file = join(folder, 'request.json');
    for (const content of ['null', '[]', '"tiny"']) {
      await writeFile(file, content);
      const { exitCode, errorOutput } = await lora(['jobs', 'create', '--request', file]);
      expect([exitCode, errorOutput]).toEqual([
        EXIT.failed,
        `invalid_request: ${file} is not the JSON object of a request.\n`,
      ]);
    }
  });

  it('shows rows, with what is trained in brackets', async () => {
    const token = (text: string, trained: boolean) => ({ id: 1, text, trained });
    const data = [token('ask', false), token('an', true), token('swer\u001b', true), token('.', false)];
    const tokens = { total: 5, trained: 2, outcome: 'truncated', sequences: [{ start: 0, tokens: 4 }], data };
    const row = { line: 7, text: '{"text":"x"}', characters: 12, faults: [], tokens };
    const fault = { code: 'chat_template_failed', message: 'It fails.', line: 9 };
    const rows = [row, { ...row, line: 9, faults: [fault], tokens: null }];
    const { output, requests } = await lora(
      'datasets rows ds_1 --after 6 --base-model tiny --max-seq-length 4 --on-overflow truncate'.split(' '),
      json(200, { data: rows, has_more: true, next: 9 }),
    );
    const [head, text, raw, why, more] = output.split('\n');
    expect(head).toBe('7: 5 tokens, 2 trained, truncated');
    expect(text).toBe('ask[answer]. …');
    expect([raw, why, more]).toEqual(['9: {"text":"x"}', '  line 9: It fails.', 'more: --after 9']);
    const query = 'after=6&max_seq_length=4&base_model=tiny&on_overflow=truncate';
    expect(requests[0]!.url).toBe(`/datasets/ds_1/rows?${query}`);
  });

  it('prints the secret of webhooks, which a receiver needs', async () => {
    const answer = { object: 'webhook_secret', secret: 'whsec_c2VjcmV0' };
    const { output, requests } = await lora(['webhook-secret'], json(200, answer));
    expect(output).toBe('whsec_c2VjcmV0\n');
    expect(requests[0]).toMatchObject({ method: 'GET', url: '/webhook-secret' });
    expect(JSON.parse((await lora(['webhook-secret', '--json'], json(200, answer))).output)).toEqual(answer);
  });

  it('lists what the workers train on, with what their self-tests found', async () => {
    const rates = {
      matmul_gflops: 125_400,
      attention_gflops: 9_000,
      weight_gbytes: 500,
      pass_gbytes: 500,
      layer_overhead_ms: 0.5,
    };
    const machine = {
      worker: 'gpu-1',
      measured_at: '2026-11-26T00:00:00.000Z',
      processor: 'NVIDIA L4; a processor',
      kernels: 'avx512bf16' as const,
      memory_bytes: 23e9,
      base_memory_bytes: 0,
      pass_tokens: 1024,
      rates: { float32: rates, bfloat16: rates },
    };
    const card = { name: 'NVIDIA L4', uuid: 'GPU-1', compute_capability: '8.9', driver: '550.54.15, CUDA 12.4' };
    const tested = {
      tested_at: '2026-11-26T00:00:00.000Z',
      seconds: 9,
      cases: 171,
      failed: [{ case: 'rmsNorm bfloat16 [3, 37]', fault: 'two runs on the card differ' }],
      kernels: 'fused',
      avoided_kernels: ['rmsNorm:bfloat16'],
      distrust: null,
    };
    const onGpu = { kind: 'cuda', card: { ...card, memory_bytes: 24e9 }, self_test: tested };
    const onCpu = { kind: 'cpu', card: null, self_test: null };
    const onPlain = { ...onGpu, self_test: { ...tested, kernels: 'raw' } };
    const memory = { memory_used_bytes: 2 ** 30, memory_total_bytes: 2 ** 34 };
    const ofCard = { busy: 0.8, memory_used_bytes: 20e9, memory_total_bytes: 24e9 };
    const load = { read_at: '', processor_busy: 0.25, ...memory, card: ofCard };
    const listed = await lora(
      ['machines'],
      json(200, {
        data: [
          { ...machine, engine: onGpu, running: { jobs: 1, jobs_at_once: 4, load } },
          { ...machine, worker: 'w-2', engine: onCpu, running: null },
          { ...machine, worker: 'gpu-3', engine: onPlain, running: null },
        ],
      }),
    );
    expect(listed.requests[0]).toMatchObject({ method: 'GET', url: '/machines' });
    expect(listed.output).toMatch(
      /gpu-1 +1 of 4 jobs +cuda +NVIDIA L4 +8\.9 +550\.54\.15, CUDA 12\.4 +23 GB +125\.4 TFLOP\/s +80 %, 20 GB in use +170 of 171 right; avoided: rmsNorm:bfloat16/,
    );
    expect(listed.output).toMatch(/gpu-3 .* 170 of 171 right; plain ops only$/m);
    expect(listed.output).toMatch(/w-2 +no +cpu +NVIDIA L4; a processor +- +- +23 GB +125\.4 TFLOP\/s +- +-/);
  });

  it('pauses a job, at once or after its step', async () => {
    const waiting = await lora(['jobs', 'pause', 'job_1'], json(200, { id: 'job_1', status: 'paused' }));
    expect([waiting.exitCode, waiting.output]).toEqual([EXIT.done, 'job_1 is paused\n']);
    expect(waiting.requests[0]).toMatchObject({ method: 'POST', url: '/jobs/job_1/pause', body: '' });
    const running = await lora(['jobs', 'pause', 'job_1'], json(202, { id: 'job_1', status: 'running' }));
    expect(running.output).toBe('job_1 is paused once its step is done\n');
  });

  it('resumes a job, lists its checkpoints, and publishes one', async () => {
    const resumed = await lora(['jobs', 'resume', 'job_1'], json(202, { id: 'job_1', status: 'queued' }));
    expect([resumed.exitCode, resumed.output]).toEqual([EXIT.done, 'job_1  queued\n']);
    expect(resumed.requests[0]).toMatchObject({ method: 'POST', url: '/jobs/job_1/resume', body: '' });

    const checkpoint = {
      step: 20,
      epoch: 0.5,
      train_loss: 1.25,
      eval_loss: null,
      is_best: false,
      is_last: true,
      bytes: 2_000,
    };
    const best = { ...checkpoint, step: 10, eval_loss: 1.5, is_best: true, is_last: false };
    const listed = await lora(['jobs', 'checkpoints', 'job_1'], json(200, { data: [checkpoint, best] }));
    expect(listed.requests[0]).toMatchObject({ method: 'GET', url: '/jobs/job_1/checkpoints' });
    expect(listed.output).toMatch(/20 +0\.50 +1\.2500 +- +2\.0 kB +last/);
    expect(listed.output).toMatch(/10 +0\.50 +1\.2500 +1\.5000 +2\.0 kB +best/);

    const answer = json(202, { id: 'job_2', status: 'queued' });
    const published = await lora(['jobs', 'publish', 'job_1', 'best', '--name', 'the one'], answer);
    expect([published.exitCode, published.output]).toEqual([EXIT.done, 'job_2  queued\n']);
    expect(published.requests[0]).toMatchObject({ method: 'POST', url: '/jobs/job_1/checkpoints/best/publish' });
    expect(bodyOf(published.requests)).toEqual({ name: 'the one' });
    expect((await lora(['jobs', 'publish', 'job_1', 'worst'], answer)).requests).toEqual([]);
  });

  it('imports a PEFT folder or a tar of it', async () => {
    const adapter = { id: 'ad_1', base_model: 'tiny' };
    for (const name of ['adapter_config.json', 'adapter_model.safetensors', 'README.md']) {
      await writeFile(join(folder, name), `content of ${name}`);
    }
    const { exitCode, output, requests } = await lora(
      ['adapters', 'import', folder, '--base-model', 'tiny', '--name', 'mine'],
      json(201, adapter),
    );
    expect([exitCode, output]).toEqual([EXIT.done, 'ad_1 is imported, for tiny\n']);
    expect(requests[0]).toMatchObject({ method: 'POST', url: '/adapters?base_model=tiny&name=mine' });
    expect(requests[0]?.headers['content-type']).toBe('application/x-tar');
    expect(requests[0]?.body).toContain('content of adapter_config.json');
    expect(requests[0]?.body).toContain('content of adapter_model.safetensors');
    expect(requests[0]?.body).not.toContain('README');

    await writeFile(join(folder, 'adapter.tar'), 'a tar');
    const fromFile = await lora(['adapters', 'import', join(folder, 'adapter.tar')], json(201, adapter));
    expect(fromFile.requests[0]).toMatchObject({ url: '/adapters', body: 'a tar' });

    await rm(join(folder, 'adapter_model.safetensors'));
    const without = await lora(['adapters', 'import', folder], json(201, adapter));
    expect(without.requests).toEqual([]);
    expect(without.errorOutput).toContain('has no adapter_model.safetensors');
  });

  it('accepts objects and arrays as JSON', async () => {
    const args = ['--model', 'tiny', '--dataset', 'ds_1', '--rank-pattern', '{"q_proj": 4}'];
    const more = ['--layers-to-transform', '[0, 2]', '--exclude-modules', 'k_proj,o_proj', '--alpha-pattern', '{'];
    const ofExperts = ['--target-modules', '[]', '--target-parameters', 'mlp.experts.down_proj'];
    const { requests } = await lora(
      ['jobs', 'create', ...args, ...more, ...ofExperts],
      json(202, { id: 'job_1', status: 'queued' }),
    );
    expect(bodyOf(requests)).toMatchObject({
      lora: {
        target_modules: [],
        target_parameters: ['mlp.experts.down_proj'],
        rank_pattern: { q_proj: 4 },
        layers_to_transform: [0, 2],
        exclude_modules: ['k_proj', 'o_proj'],
        // Invalid JSON is sent as text, so that the server reports it.
        alpha_pattern: '{',
      },
    });
  });

  it('converts flags to a request', async () => {
    const args =
      '--model tiny --dataset ds_1 --r 4 --target-modules q_proj,v_proj --learning-rate 5e-4 --use-rslora true --max-grad-norm null --lr-scheduler cosine --validation-dataset ds_2 --name 7';
    const { exitCode, requests, output } = await lora(
      ['jobs', 'create', ...args.split(' '), '--idempotency-key', 'k'],
      json(202, { id: 'job_1', status: 'queued' }),
    );
    expect(bodyOf(requests)).toEqual({
      base_model: 'tiny',
      dataset: 'ds_1',
      name: '7',
      lora: { r: 4, target_modules: ['q_proj', 'v_proj'], use_rslora: true },
      training: { learning_rate: 5e-4, max_grad_norm: null, lr_scheduler: 'cosine' },
      validation: { dataset: 'ds_2' },
    });
    expect(requests[0]?.headers['idempotency-key']).toBe('k');
    expect([exitCode, output]).toEqual([EXIT.done, 'job_1  queued\n']);
  });

  it('fills a request with the settings of a recipe, which flags override', async () => {
    const args = ['jobs', 'create', '--model', 'm', '--dataset', 'd', '--recipe', 'rslora-64', '--alpha', '32'];
    const { requests } = await lora(args, json(202, {}));
    expect(bodyOf(requests)).toEqual({
      base_model: 'm',
      dataset: 'd',
      lora: { r: 64, alpha: 32, use_rslora: true },
      validation: { split: 0.05 },
    });
  });

  it.each([
    ['jobs', 'create', '--dataset', 'd'],
    ['train', 'rows.jsonl', '--yes'],
    ['sweep', 'rows.jsonl', '--over', 'lora.r=4,8'],
  ])('refuses a recipe that there is not before anything is sent: %s', async (...command) => {
    const { exitCode, errorOutput, requests } = await lora(
      [...command, '--model', 'm', '--recipe', 'rslora-65'],
      json(202, {}),
    );
    expect([exitCode, requests]).toEqual([EXIT.failed, []]);
    expect(errorOutput).toContain(
      'There is no recipe rslora-65. The recipes are quick-try, standard, thorough, rslora-64.',
    );
  });

  it.each([
    ['all-linear', 'all-linear'],
    ['q_proj', ['q_proj']],
    ['.*layers\\.[01]\\..*(q|v)_proj', '.*layers\\.[01]\\..*(q|v)_proj'],
  ])('accepts the target modules %s', async (typed, sent) => {
    const { requests } = await lora(
      ['jobs', 'create', '--model', 'm', '--dataset', 'd', '--target-modules', typed],
      json(202, {}),
    );
    expect(bodyOf(requests)).toMatchObject({ lora: { target_modules: sent } });
  });

  it('sends the tags and the note of a new job', async () => {
    const flags = ['--tags', 'a, b,a', '--note', 'two\nlines'];
    const { requests } = await lora(['jobs', 'create', '--model', 'm', '--dataset', 'd', ...flags], json(202, {}));
    expect(bodyOf(requests)).toEqual({ base_model: 'm', dataset: 'd', tags: ['a', 'b'], note: 'two\nlines' });
    const wrong = await lora(['jobs', 'create', '--model', 'm', '--dataset', 'd', '--tags', 'a,,b'], json(202, {}));
    expect([wrong.exitCode, wrong.requests]).toEqual([EXIT.failed, []]);
    expect(wrong.errorOutput).toContain('empty tag between commas');
  });

  it('overrides a request from a file with flags', async () => {
    const file = join(folder, 'job.json');
    await writeFile(file, '{"base_model":"tiny","dataset":"ds_1","lora":{"r":4,"alpha":8},"metadata":{"a":"b"}}');
    const { requests } = await lora(['jobs', 'create', '--request', file, '--r', '16'], json(202, {}));
    expect(bodyOf(requests)).toEqual({
      base_model: 'tiny',
      dataset: 'ds_1',
      lora: { r: 16, alpha: 8 },
      metadata: { a: 'b' },
    });
    await writeFile(file, '{');
    expect(await lora(['jobs', 'create', '--request', file])).toMatchObject({ exitCode: EXIT.failed });
  });

  it('prints every fault with its location', async () => {
    const file = join(folder, 'rows.jsonl');
    await writeFile(file, '{}');
    const details = [
      { code: 'invalid_json', message: 'Not JSON.', line: 3 },
      { code: 'unknown_field', message: 'No such field.', param: 'lora.rank' },
    ];
    const { exitCode, errorOutput } = await lora(
      ['datasets', 'upload', file],
      failure(422, 'invalid_dataset', details),
    );
    expect(exitCode).toBe(EXIT.failed);
    expect(errorOutput).toBe(
      'invalid_dataset: It is invalid_dataset. [request req_1]\n  line 3: Not JSON.\n  lora.rank: No such field.\n',
    );
  });

  it('lists as text and as JSON', async () => {
    const page = {
      data: [{ id: 'ds_1', name: null, format: 'text', rows: 12, bytes: 3400 }],
      has_more: true,
      next: 'ds_1',
    };
    const text = await lora(['datasets', 'list', '--limit', '1'], json(200, page));
    expect(text.output).toBe('ID    NAME  FORMAT  ROWS  SIZE\nds_1  -     text      12  3.4 kB\nmore: --after ds_1\n');
    expect(text.requests[0]?.url).toBe('/datasets?limit=1');
    const asJson = await lora(['datasets', 'list', '--json'], json(200, page));
    expect(JSON.parse(asJson.output)).toEqual(page);
  });

  it('finds, sorts and counts jobs, adapters and datasets by options', async () => {
    const page = { data: [], has_more: false, next: null, total: 0 };
    const urlOf = async (...args: string[]) => (await lora(args, json(200, page))).requests[0]?.url;
    const filters = ['--name', 'a b', '--tag', 'x,y', '--since', '2026-03-01', '--until', '2026-04-01', '--find', 'z'];
    const query = 'name=a+b&tag=x%2Cy&created_after=2026-03-01&created_before=2026-04-01';
    expect(await urlOf('jobs', 'list', ...filters, '--model', 'm', '--sort', 'lora.r', '--order', 'desc')).toBe(
      `/jobs?${query}&q=z&base_model=m&sort=lora.r&order=desc`,
    );
    const order = ['--sort', 'bytes', '--order', 'desc'];
    expect(await urlOf('adapters', 'list', ...filters, '--model', 'm', ...order)).toBe(
      `/adapters?${query}&q=z&base_model=m&sort=bytes&order=desc`,
    );
    expect(await urlOf('datasets', 'list', ...filters, ...order)).toBe(`/datasets?${query}&q=z&sort=bytes&order=desc`);
    const job = { id: 'job_1', name: null, base_model: 'm', status: 'queued', adapter: null };
    const some = await lora(['jobs', 'list', '--limit', '1'], json(200, { ...page, data: [job], total: 500 }));
    expect(some.output).toMatch(/\n1 of 500\n$/);
  });

  it('points names at adapters, rolls them back, shows and deletes them', async () => {
    const move = { base_model: 'm', moved_at: '2026-01-02T03:04:05.000Z', moved_by: null, reason: null, guard: null };
    const history = [
      { ...move, version: 2, adapter: 'ad_2', moved_by: 'key_1', reason: 'nightly', rolled_back_to: null },
      { ...move, version: 1, adapter: 'ad_1', rolled_back_to: null },
    ];
    const alias = { ...history[0], name: 'bot', object: 'alias', owner: null, history };
    const set = ['alias', 'set', 'bot', 'ad_2', '--reason', 'nightly', '--if-version', '1', '--owner', 'none'];
    const moved = await lora(set, json(200, alias));
    expect([moved.exitCode, moved.output]).toEqual([EXIT.done, 'bot points to ad_2 (version 2)\n']);
    expect(moved.requests[0]).toMatchObject({ method: 'PUT', url: '/aliases/bot?owner=none' });
    expect(bodyOf(moved.requests)).toEqual({ adapter: 'ad_2', reason: 'nightly', if_version: 1 });

    const guard = { dataset: 'ds_1', metric: 'loss', max_worse: 0.5 };
    const guarded = { ...history[0], guard: { ...guard, before: 2, after: 1.25 } };
    const better = await lora(
      ['alias', 'set', 'bot', 'ad_2', '--guard', 'ds_1', '--max-worse', '0.5'],
      json(200, { ...alias, history: [guarded] }),
    );
    expect(bodyOf(better.requests)).toEqual({ adapter: 'ad_2', guard });
    expect(better.output).toBe('bot points to ad_2 (version 2); loss 2.0000 → 1.2500\n');
    const without = await lora(['alias', 'set', 'bot', 'ad_2', '--max-worse', '1'], json(200, alias));
    expect([without.exitCode, without.requests]).toEqual([EXIT.failed, []]);

    const back = await lora(['alias', 'rollback', 'bot', '--to', '1'], json(200, { ...alias, ...history[1] }));
    expect(back.output).toBe('bot points to ad_1 (version 1)\n');
    expect(back.requests[0]).toMatchObject({ method: 'POST', url: '/aliases/bot/rollback' });
    expect(bodyOf(back.requests)).toEqual({ version: 1 });
    expect(bodyOf((await lora(['alias', 'rollback', 'bot'], json(200, alias))).requests)).toEqual({});

    const shown = await lora(['alias', 'show', 'bot'], json(200, alias));
    expect(shown.output).toBe(
      [
        'bot points to ad_2 (version 2)',
        'VERSION  ADAPTER  MOVED                     BY     REASON',
        '      2  ad_2     2026-01-02T03:04:05.000Z  key_1  nightly',
        '      1  ad_1     2026-01-02T03:04:05.000Z  -\n',
      ].join('\n'),
    );
    const listed = await lora(['alias', 'list'], json(200, { data: [alias] }));
    expect(listed.requests[0]).toMatchObject({ method: 'GET', url: '/aliases' });
    expect(listed.output).toMatch(/\nbot +ad_2 +m +2 +2026-01-02T03:04:05.000Z\n$/);
    const removed = await lora(['alias', 'rm', 'bot'], (response) => void response.writeHead(204).end());
    expect([removed.output, removed.requests[0]?.method]).toEqual(['bot is deleted\n', 'DELETE']);
  });

  it('names, tags and annotates', async () => {
    const changed = { id: 'job_1', name: 'n', tags: ['a', 'b'], note: 'two\nlines' };
    for (const [kind, path] of Object.entries({ jobs: '/jobs/x', adapters: '/adapters/x', datasets: '/datasets/x' })) {
      const args = [kind, 'edit', 'x', '--name', 'n', '--tags', 'a, b,a', '--note', ''];
      const { requests, output } = await lora(args, json(200, changed));
      expect(requests[0]).toMatchObject({ method: 'PATCH', url: path });
      expect(JSON.parse(String(requests[0]?.body))).toEqual({ name: 'n', tags: ['a', 'b'], note: null });
      expect(output).toBe('job_1\nname          n\ntags          a, b\nnote          two\n              lines\n');
    }
    const none = await lora(['jobs', 'edit', 'x', '--tags', '', '--name', ''], json(200, changed));
    expect(JSON.parse(String(none.requests[0]?.body))).toEqual({ name: null, tags: [] });
    expect(await lora(['jobs', 'edit', 'x', '--tags', 'a,,b'], json(200, changed))).toMatchObject({ requests: [] });
  });

  it('watches a job until it ends, and fails if the job failed', async () => {
    const error = { code: 'non_finite_loss', message: 'The loss is not finite.', details: [] };
    const sampled = { step: 0, samples: [{ prompt: 0, text: 'One,\ntwo', tokens: 2, finish_reason: 'length' }] };
    const answers = [
      { text: '1,\n\u001b[2J2', tokens: 4, reward: -0.25, finish_reason: 'stop' },
      { text: '', tokens: 1, reward: 1, finish_reason: 'stop' },
      { text: 'One', tokens: 8, reward: 0, finish_reason: 'length' },
    ];
    const graded = { step: 3, line: 7, prompt: 'user\nCount\u001b[1m\nassistant\n', answers };
    const events = [
      { id: '1-0', job: 'job_1', created_at: '', type: 'samples-generated', data: sampled },
      { id: '1-1', job: 'job_1', created_at: '', type: 'answers-graded', data: graded },
      { id: '2-0', job: 'job_1', created_at: '', type: 'job-failed', data: { error } },
    ];
    const conversation = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Count\nto 3' },
    ];
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const in90s = new Date(Date.now() + 90_000).toISOString();
    const queue = { ahead: 2, reason: 'workers-busy', estimated_start: in90s, estimated_end: null };
    const { exitCode, output } = await lora(
      ['jobs', 'watch', 'job_1'],
      json(200, { id: 'job_1', status: 'queued', queue, samples: { prompts: [conversation] } }),
      (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.end(events.map((event) => `id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`).join(''));
      },
      json(200, { id: 'job_1', status: 'failed' }),
    );
    const lines = [
      '2 jobs wait before it, all workers are busy with other jobs, starts in about 1 min 30 s',
      'samples before training:',
      '  > Count to 3',
      '    One,',
      '    two…',
      'answers of step 3, line 7:',
      '  > …user Count[1m assistant',
      '     -0.250  1, [2J2',
      '      1.000  ',
      '      0.000  One…',
      'failed (non_finite_loss): The loss is not finite.',
    ];
    expect([exitCode, output]).toEqual([EXIT.failed, lines.map((line) => `${line}\n`).join('')]);
  });

  it('compares the answers of an adapter and its base, as they come, without control characters', async () => {
    const answered =
      (content: string): Answer =>
      (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.end(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\ndata: [DONE]\n\n`);
      };
    const args = [
      'chat',
      'ad_1',
      'Hello',
      '--compare',
      '--system',
      'Be brief.',
      '--max-tokens',
      '8',
      '--stop',
      'x',
      '--stop',
      'y',
    ];
    const model = { id: 'ad_1', parent: 'tiny' };
    const { output, requests, exitCode } = await lora(
      args,
      json(200, model),
      answered('Well,\n\u001b[2Jhm'),
      answered('Hi'),
    );
    expect([exitCode, output]).toEqual([EXIT.done, 'tiny:\nWell,\n[2Jhm\n\nad_1:\nHi\n']);
    expect(requests.map(({ url }) => url)).toEqual(['/v1/models/ad_1', '/v1/chat/completions', '/v1/chat/completions']);
    expect(JSON.parse(requests[2]!.body)).toEqual({
      model: 'ad_1',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'Hello' },
      ],
      ...{ temperature: 0, max_tokens: 8, stop: ['x', 'y'], stream: true },
    });
  });
});
