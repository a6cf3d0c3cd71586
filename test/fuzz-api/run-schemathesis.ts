import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { adapterTarOf, type HostileStack } from '../hostile/hostile-stack.js';

const DOCUMENT = fileURLToPath(new URL('../../openapi/openapi.json', import.meta.url));
const HOOKS = fileURLToPath(new URL('../checks/fuzz/schemathesis_hooks.py', import.meta.url));
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'use_after_free',
  'ensure_resource_availability',
];

/** The runs of a test: without and with a key. They share the time. */
const RUNS = 2;
/** Each operation of a limited time gets so many in turn, until it is over. */
const ROUND_EXAMPLES = '10';

/** Runs Schemathesis on the api. @returns its report; `requests` is its count of requests */
export async function runSchemathesis(stack: HostileStack, headers: Record<string, string>) {
  const { FUZZ_PROGRAM: program, FUZZ_MINUTES: minutes, FUZZ_SEED: seed = '1' } = process.env;
  const { FUZZ_EXAMPLES: examples = minutes === undefined ? '650' : ROUND_EXAMPLES } = process.env;
  if (program === undefined) throw new Error('run it with: npm run fuzz:api');
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fuzz-'));
  // The event stream of a waiting job never ends. As JSON, the answer ends.
  const all = { accept: 'application/json', ...headers };
  const args = [
    'run',
    DOCUMENT,
    `--url=${stack.apiUrl}`,
    `--checks=${CHECKS.join()}`,
    `--max-examples=${examples}`,
    ...(minutes === undefined ? [] : [`--max-time=${Math.ceil((60 * Number(minutes)) / RUNS)}`]),
    `--seed=${seed}`,
    '--continue-on-failure',
    '--no-shrink',
    '--generation-with-security-parameters=false',
    '--request-timeout=60',
    '--suppress-health-check=all',
    '--generation-database=none',
    '--warnings=off',
    ...Object.entries(all).map(([name, value]) => `--header=${name}: ${value}`),
  ];
  try {
    const tar = path.join(folder, 'adapter.tar');
    await writeFile(tar, adapterTarOf(stack));
    const env = {
      ...process.env,
      SCHEMATHESIS_HOOKS: HOOKS,
      FUZZ_DATASET: stack.dataset,
      FUZZ_JOB: stack.job,
      FUZZ_ADAPTER: stack.adapter,
      FUZZ_TAR: tar,
    };
    const child = spawn(program, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const [code] = await once(child, 'close');
    const counted = /(\d[\d,]*) generated/.exec(output)?.[1] ?? '0';
    return {
      failed: code !== 0,
      requests: Number(counted.replaceAll(',', '')),
      report: output.slice(output.indexOf('= FAILURES =')),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
