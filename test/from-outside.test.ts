import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommandLine } from '../packages/client/src/command-line/run-command-line.js';
import { createClient } from '../packages/client/src/index.js';
import { packClient } from '../scripts/release/client-package.mjs';
import { cacheDir } from '../scripts/setup/locations.mjs';
import { pythonEnvironment } from '../scripts/setup/python-environment.mjs';
import { startStack } from '../scripts/stack/start-stack.mjs';
import { makeDataFolder } from './data-folder.js';
import { writeTinyLlama } from './tiny-llama.js';

// What a user installs elsewhere, against a complete service: the packed client with its command `lora`, and Python.

const ROOT = path.join(import.meta.dirname, '..');
const run = promisify(execFile);
const MODEL = 'tiny-llama';
const ROWS = Array.from({ length: 16 }, (_, i) => `{"prompt":"Say ${i}.","completion":"It is ${i}."}\n`).join('');

let folder: string;
/** The folder in which the client is installed. */
let project: string;
let stack: Awaited<ReturnType<typeof startStack>>;
let client: ReturnType<typeof createClient>;
let packed: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-outside-'));
  project = path.join(folder, 'project');
  await makeDataFolder(path.join(folder, 'data'));
  await mkdir(project);
  await writeFile(path.join(project, 'rows.jsonl'), ROWS);
  await writeTinyLlama(path.join(folder, 'models', MODEL));
  [stack, packed] = await Promise.all([
    startStack({
      dataDir: path.join(folder, 'data'),
      modelsDir: path.join(folder, 'models'),
      env: { ...process.env, REDIS_URL: undefined },
    }),
    packClient(folder),
  ]);
  client = createClient({ baseUrl: stack.apiUrl });
});

afterAll(async () => {
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

const environment = () => ({ ...process.env, LORASMITH_URL: stack.apiUrl, LORASMITH_API_KEY: '' });
const lora = () => path.join(project, 'node_modules/.bin/lora');

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs the installed `lora` to its end. */
async function ran(...args: string[]): Promise<Ended> {
  return await run(lora(), args, { cwd: project, env: environment() }).then(
    (written) => ({ code: 0, ...written }),
    (error: Ended) => error,
  );
}

const jobs = async () => (await client.listJobs({ limit: 100 })).data;

describe('the packed client', () => {
  test('has the same bytes when it is packed again, and lists what is bundled in it', async () => {
    const again = path.join(folder, 'again');
    await mkdir(again);
    await packClient(again);
    expect(await readFile(path.join(again, packed))).toEqual(await readFile(path.join(folder, packed)));
    await run('tar', ['-xzf', path.join(folder, packed), '-C', again, 'package/sbom.cdx.json']);
    const { components } = JSON.parse(await readFile(path.join(again, 'package/sbom.cdx.json'), 'utf8'));
    const names = components.map(({ name }: { name: string }) => name);
    expect(names).toEqual(expect.arrayContaining(['tar', 'typebox']));
  });

  test('is installed in an empty folder without a network, and needs no other package', async () => {
    await writeFile(path.join(project, 'package.json'), '{"type":"module","private":true}');
    const args = ['install', '--offline', '--no-audit', '--no-fund', path.join(folder, packed)];
    await run('npm', args, { cwd: project });
    const installed = path.join(project, 'node_modules/@lorasmith/client');
    const description = JSON.parse(await readFile(path.join(installed, 'package.json'), 'utf8'));
    expect(description).toMatchObject({ name: '@lorasmith/client', license: 'MIT', engines: { node: '>=20.17' } });
    expect(description.version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(JSON.stringify(description)).not.toContain('workspace:');
    expect(description.dependencies).toBeUndefined();
    expect(await readdir(path.join(project, 'node_modules'))).toEqual(
      expect.not.arrayContaining(['tar', 'typebox', 'minipass', 'commander']),
    );
    expect((await readdir(installed)).sort()).toEqual(
      ['LICENSE', 'README.md', 'THIRD-PARTY-LICENSES', 'dist', 'package.json', 'sbom.cdx.json'].sort(),
    );
    const readme = await readFile(path.join(installed, 'README.md'), 'utf8');
    expect(readme).toContain('lora train');
    expect([...readme.matchAll(/\]\((?!https?:)/g)]).toEqual([]);
    const licences = await readFile(path.join(installed, 'THIRD-PARTY-LICENSES'), 'utf8');
    for (const name of ['tar', 'minipass', 'typebox', 'commander'])
      expect(licences).toMatch(new RegExp(`^${name} \\d`, 'm'));
  });

  test('has the command lora', async () => {
    expect(await ran('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('  train FILE') });
    const models = await ran('models', 'list');
    expect(models).toMatchObject({ code: 0, stdout: expect.stringContaining(MODEL) });
    const { version } = JSON.parse(await readFile(path.join(ROOT, 'packages/client/package.json'), 'utf8'));
    expect(await ran('--version')).toMatchObject({ code: 0, stdout: `${version}\n` });
  });

  test('works as a module, and its types are complete', async () => {
    await writeFile(
      path.join(project, 'use.ts'),
      `import { ApiError, type Client, createClient, createJobProgress, type Job, type JobRequest } from '@lorasmith/client';
       const client: Client = createClient({ baseUrl: process.env.LORASMITH_URL ?? '' });
       const models = await client.models();
       console.log(models.map(({ name }) => name).join());
       const request: JobRequest = { base_model: 'none', dataset: 'ds_000000000000000000000000', lora: { r: 4 } };
       try {
         const job: Job = await client.createJob(request);
         createJobProgress(process.stdout).end();
         console.log(job.status === 'queued' ? job.queue?.ahead : job.report?.steps.total.toFixed());
       } catch (error) {
         if (!(error instanceof ApiError)) throw error;
         console.log(error.code, error.status, error.details.length);
       }
       // @ts-expect-error: there is no such field
       export const wrong: JobRequest = { ...request, rank: 4 };
       // @ts-expect-error: the rank is a number
       export const alsoWrong: JobRequest = { ...request, lora: { r: '4' } };`,
    );
    await writeFile(
      path.join(project, 'page.ts'),
      `import { createClient, type JobEvent } from '@lorasmith/client/core';
       const client = createClient({ baseUrl: location.origin });
       const seen: JobEvent['type'][] = [];
       for await (const event of client.events('job_1')) {
         seen.push(event.type);
         if (event.type === 'step-finished') document.title = event.data.loss.toFixed(3);
       }`,
    );
    const options = {
      ...{ target: 'es2023', module: 'nodenext', strict: true, skipLibCheck: false, exactOptionalPropertyTypes: true },
      ...{ noUncheckedIndexedAccess: true, types: [], noEmit: true },
    };
    const settings = {
      node: { files: ['use.ts'], compilerOptions: { ...options, lib: ['es2023'], types: ['node'], noEmit: false } },
      browser: { files: ['page.ts'], compilerOptions: { ...options, lib: ['es2023', 'dom', 'dom.iterable'] } },
    };
    // The types of Node are the user's own choice.
    await cp(path.join(ROOT, 'node_modules/@types/node'), path.join(project, 'node_modules/@types/node'), {
      recursive: true,
      dereference: true,
    });
    await cp(
      path.join(ROOT, 'node_modules/.pnpm/node_modules/undici-types'),
      path.join(project, 'node_modules/undici-types'),
      {
        recursive: true,
        dereference: true,
      },
    );
    const compiled = Object.entries(settings).map(async ([name, setting]) => {
      const file = path.join(project, `${name}.json`);
      await writeFile(file, JSON.stringify(setting));
      const args = [path.join(ROOT, 'node_modules/typescript/bin/tsc'), '--project', file];
      return (await run(process.execPath, args).catch((error: Ended) => error)).stdout;
    });
    expect(await Promise.all(compiled)).toEqual(['', '']);
    const used = await run(process.execPath, ['use.js'], { cwd: project, env: environment() });
    expect(used.stdout).toMatch(new RegExp(`^${MODEL}\\n\\w+ 4\\d\\d \\d+\\n$`));
  });

  test('has a core without Node', async () => {
    const dist = path.join(project, 'node_modules/@lorasmith/client/dist');
    const seen = new Set<string>();
    const imported = async (file: string): Promise<void> => {
      if (seen.has(file)) return;
      seen.add(file);
      const text = await readFile(file, 'utf8');
      for (const [, specifier = ''] of text.matchAll(/^(?:import|export)\b[^;'"]*?['"]([^'"]+)['"]/gm)) {
        expect([file, specifier]).toEqual([file, expect.stringMatching(/^\.\.?\//)]);
        await imported(path.join(path.dirname(file), specifier));
      }
    };
    await imported(path.join(dist, 'core.js'));
    expect(seen.size).toBeGreaterThan(0);
  });
});

describe('lora train', () => {
  const settings = ['--model', MODEL, '--r', '4', '--batch-size', '4', '--precision', 'float32'];
  const short = [...settings, '--max-steps', '6', '--learning-rate', '0.01'];
  const endless = [...settings, '--max-steps', '1000000', '--checkpoint-every-steps', 'null'];

  test('refuses before it sends anything', async () => {
    await mkdir(path.join(project, 'taken'));
    const cases: [args: string[], message: string][] = [
      [['rows.jsonl', ...short], 'With --yes it starts without a question.'],
      [['rows.jsonl', '--yes'], 'lora train needs --model NAME.'],
      [['rows.jsonl', ...short, '--yes', '--out', 'taken'], 'taken exists.'],
      // They are named first, whether or not there is a terminal to ask.
      [['missing.jsonl', ...short], 'Cannot read missing.jsonl'],
      [['rows.jsonl', ...short, '--model', 'no-such-model'], 'no-such-model'],
    ];
    for (const [args, message] of cases) {
      expect(await ran('train', ...args)).toMatchObject({ code: 1, stderr: expect.stringContaining(message) });
    }
    expect((await client.listDatasets()).data).toEqual([]);
  });

  test('reports every wrong line, and what is wrong with the job, and starts nothing', async () => {
    await writeFile(path.join(project, 'wrong.jsonl'), '{"prompt":"a","completion":"b"}\n{"prompt":1}\nnone\n');
    const rows = await ran('train', 'wrong.jsonl', ...short, '--yes');
    expect(rows.code).toBe(1);
    expect(rows.stderr).toMatch(/^invalid_dataset: .*\n {2}line 2: .*\n/);
    expect(rows.stderr).toMatch(/\n {2}line 3: /);
    const job = await ran('train', 'rows.jsonl', ...short, '--target-modules', 'q_porj', '--yes');
    expect(job).toMatchObject({ code: 1, stderr: expect.stringContaining('No layer is named "q_porj"') });
    expect(await jobs()).toEqual([]);
  });

  test.each([
    ['n\n', 'Nothing is started.'],
    ['', 'Nothing is started.'],
    ['y\n', 'is published'],
  ])('asks on a terminal, and answers %j with: %s', async (answer, outcome) => {
    const written = { output: '', errorOutput: '' };
    const code = await runCommandLine({
      args: ['train', path.join(project, 'rows.jsonl'), ...short, '-o', path.join(project, `asked-${answer.trim()}`)],
      version: '1.2.3',
      baseUrl: stack.apiUrl,
      input: Object.assign(Readable.from(answer === '' ? [] : [answer]), { isTTY: true }) as never,
      output: { write: (text: string) => (written.output += text) },
      errorOutput: { write: (text: string) => (written.errorOutput += text) },
      signal: new AbortController().signal,
    });
    expect([code, written.errorOutput.trimEnd()]).toEqual([0, 'Train it? [Y/n]']);
    expect(written.output).toContain('steps         6');
    expect(written.output).toContain(outcome);
    expect(await jobs()).toHaveLength(answer === 'y\n' ? 1 : 0);
  });

  test('trains and downloads; the same call again finds dataset, job and adapter', async () => {
    const [{ id } = { id: '' }] = await jobs();
    const flags = ['--yes', '--sample', 'Say 3.'];
    const first = await ran('train', 'rows.jsonl', ...short, ...flags, '-o', 'adapter');
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toContain('16 rows, prompt_completion, 716 bytes, stored since an earlier upload');
    expect(first.stdout).toContain('samples after step 6:');
    expect(first.stdout).toMatch(/6\/6 \[█+\] 100 % {2}loss /);
    expect(first.stdout).toMatch(/ad_\w+ is in adapter\n$/);
    expect((await readdir(path.join(project, 'adapter'))).sort()).toEqual(
      expect.arrayContaining(['adapter_config.json', 'adapter_model.safetensors']),
    );
    // The command shows the first row as it is trained. Those who get the adapter do not see it.
    expect(first.stdout).toMatch(/first row .*Say 0\..*\[It is 0\..*\] \(completion_format chat\)/);
    const { origin } = JSON.parse(await readFile(path.join(project, 'adapter/manifest.json'), 'utf8'));
    expect(origin.report.rendered).toEqual({ completion_format: 'chat', first_row: [] });
    // The order of the flags makes no difference.
    const again = await ran('train', 'rows.jsonl', ...flags, '--merged', '-o', 'merged', ...short);
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('of an earlier call has succeeded') });
    expect(await readdir(path.join(project, 'merged'))).toContain('model.safetensors');
    expect((await jobs()).map((job) => job.id)).toEqual([expect.any(String), id]);
    const anew = await ran('train', 'rows.jsonl', ...flags, ...short, '--again', '--json');
    const { job, path: unpacked } = JSON.parse(anew.stdout);
    expect(await readdir(project)).toContain(unpacked);
    expect(job).toMatchObject({ status: 'succeeded', adapter: unpacked });
    expect((await jobs())[0]?.id).toBe(job.id);
  });

  test('trains with a recipe that flags override; the config has its scale as alpha / r, as every loader reads it', async () => {
    const flags = ['--recipe', 'rslora-64', '--r', '16', '--yes', '-o', 'high-rank'];
    const settings = ['--model', MODEL, '--batch-size', '4', '--max-steps', '2', '--validation-split', '0.25'];
    expect(await ran('train', 'rows.jsonl', ...settings, ...flags)).toMatchObject({ code: 0, stderr: '' });
    const [job] = await jobs();
    expect(job).toMatchObject({ lora: { r: 16, alpha: 64, use_rslora: true }, validation: { split: 0.25 } });
    const config = JSON.parse(await readFile(path.join(project, 'high-rank/adapter_config.json'), 'utf8'));
    // 64 / √16 = 256 / 16
    expect(config).toMatchObject({ r: 16, lora_alpha: 256 });
    expect(config.use_rslora ?? false).toBe(false);
  });

  test.each([
    ['y', 0, 'is in answered'],
    ['\\x03', 130, 'Train it?'],
    ['\\x04', 0, 'Nothing is started.'],
  ])('ends on a real terminal after %s', async (answer, code, outcome) => {
    // Types the answer once it is asked.
    const terminal = [
      'import os, pty, sys',
      'child, terminal = pty.fork()',
      'if child == 0: os.execv(sys.argv[2], sys.argv[2:])',
      'output, typed = b"", False',
      'while True:',
      '  try: data = os.read(terminal, 4096)',
      '  except OSError: break',
      '  if not data: break',
      '  output += data',
      '  if not typed and b"[Y/n]" in output:',
      '    typed = os.write(terminal, sys.argv[1].encode().decode("unicode_escape").encode()) > 0',
      'sys.stdout.write(output.decode())',
      'sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))',
    ].join('\n');
    const typed = answer === 'y' ? 'y\n' : answer;
    const command = [lora(), 'train', 'rows.jsonl', ...short, '-o', 'answered', '--force'];
    const options = { cwd: project, env: environment(), timeout: 60_000 };
    const ended = await run('python3', ['-c', terminal, typed, ...command], options).then(
      ({ stdout }) => ({ code: 0, stdout }),
      (error: Ended) => error,
    );
    expect(ended).toMatchObject({ code, stdout: expect.stringContaining(outcome) });
  });

  test('interrupted, leaves the job running and says how to return; the same call returns to it', async () => {
    const before = await jobs();
    const interrupted = async () => {
      const child = spawn(lora(), ['train', 'rows.jsonl', ...endless, '--yes', '-o', 'never'], {
        cwd: project,
        env: environment(),
      });
      let [stdout, stderr] = ['', ''];
      child.stderr.on('data', (chunk) => {
        stderr += chunk;
      });
      for await (const chunk of child.stdout) {
        stdout += chunk;
        if (/\d+\/1000000/.test(stdout)) child.kill('SIGINT');
      }
      const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
      return { code, stderr };
    };
    const first = await interrupted();
    const [job] = await jobs();
    expect(first).toEqual({ code: 130, stderr: expect.stringContaining(`lora jobs watch ${job?.id}`) });
    expect(job?.status).toBe('running');
    expect(await interrupted()).toEqual(first);
    expect(await jobs()).toHaveLength(before.length + 1);

    expect(await ran('jobs', 'cancel', job?.id ?? '')).toMatchObject({ code: 0 });
    expect(await ran('jobs', 'watch', job?.id ?? '')).toMatchObject({ code: 1 });
    const cancelled = await ran('train', 'rows.jsonl', ...endless, '--yes', '-o', 'never');
    expect(cancelled.code).toBe(1);
    expect(cancelled.stdout).toContain(`lora jobs resume ${job?.id}`);
    expect(cancelled.stdout).toContain('--again');
  });
});

describe('examples/python', () => {
  let python: string;
  beforeAll(async () => {
    const requirements = path.join(ROOT, 'examples/python/requirements.txt');
    const options = { cache: cacheDir(process.env), name: 'python-examples', requirements };
    python = path.join(await pythonEnvironment(options), 'python');
  });

  const script = async (name: string, ...args: string[]) =>
    await run(python, [path.join(ROOT, 'examples/python', name), ...args], { cwd: project, env: pythonEnv() });
  const pythonEnv = () => {
    const { LORASMITH_API_KEY: _, ...env } = environment();
    return env;
  };

  test('train.py trains an adapter, which ask.py asks beside its base', async () => {
    const { stdout } = await script('train.py', 'rows.jsonl', MODEL);
    const adapter = /^ad_\w+$/m.exec(stdout)?.[0] ?? '';
    expect(await readdir(project)).toContain(`${adapter}.tar`);
    const asked = await script('ask.py', MODEL, adapter, 'Say 3.');
    expect(asked.stdout).toMatch(new RegExp(`^${MODEL}: [^]*\\n${adapter}: [^]*\\n$`));
    const wrong = await script('train.py', 'rows.jsonl', 'no-such-model').catch((error: Ended) => error);
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('model_not_found') });
  });
});
