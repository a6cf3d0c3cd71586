import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { json, serve } from '../../test/http-server.js';
import { EXIT, runCommandLine } from './run-command-line.js';

const ID = 'ad_0123456789abcdef01234567';
const NEXT = [
  { id: 10, text: ' 2021', base_logprob: -3.1, adapter_logprob: -0.2 },
  { id: 11, text: ' March', base_logprob: -0.3, adapter_logprob: -2.4 },
];
const MANIFEST = {
  id: ID,
  base_model: { name: 'a-model', quantization: null },
  origin: {
    kind: 'trained',
    probe: {
      kind: 'next-token',
      precision: 'float32',
      cases: [{ prompt: 'The date is', token_ids: [1], next_tokens: NEXT }],
    },
  },
};

async function probe(logprobs: Record<string, number>, args: string[] = [], manifest: object = MANIFEST) {
  const api = await serve(json(200, manifest));
  const text = Object.keys(logprobs)[0]!;
  const server = await serve(json(200, { choices: [{ text, logprobs: { top_logprobs: [logprobs] } }] }));
  const written = { output: '', errorOutput: '' };
  const exitCode = await runCommandLine({
    args: ['probe', ID, `${server.baseUrl}/v1`, '--model', 'mine', ...args],
    version: '1.2.3',
    baseUrl: api.baseUrl,
    apiKey: 'lsk_secret',
    serverKey: 'sk-other',
    input: Readable.from([]),
    output: { write: (some: string) => (written.output += some) },
    errorOutput: { write: (some: string) => (written.errorOutput += some) },
    signal: new AbortController().signal,
  });
  return { exitCode, ...written, api: api.requests, server: server.requests };
}

it('reports a server that has the adapter, and exits with 0', async () => {
  const { exitCode, output, api, server } = await probe({ ' 2021': -0.21, ' March': -2.38 });
  expect(exitCode).toBe(EXIT.done);
  expect(output).toContain('match: the server answers as the adapter does');
  expect(output).toMatch(/"The date is" +" 2021" +" 2021" +" March"/);
  expect(api.map(({ url }) => url)).toEqual([`/adapters/${ID}/manifest`]);
  // Each key is sent only to its own server.
  expect(api[0]!.headers.authorization).toBe('Bearer lsk_secret');
  expect(server[0]!.headers.authorization).toBe('Bearer sk-other');
  expect(JSON.parse(server[0]!.body)).toMatchObject({ model: 'mine', temperature: 0, max_tokens: 1 });
});

it('says that a server may differ that has the base model in another form than the adapter was trained on', async () => {
  const quantization = { type: 'nf4', double_quantization: true, on_load: true };
  const manifest = { ...MANIFEST, base_model: { ...MANIFEST.base_model, quantization } };
  const answered = { ' 2021': -0.21, ' March': -2.38 };
  expect((await probe(answered, [], manifest)).output).toContain(
    'trained on a-model in 4 bits (nf4, quantized when it is loaded)',
  );
  expect((await probe(answered)).output).not.toContain('4 bits');
});

it('exits with 1 for a server that has the base model or another model', async () => {
  expect(await probe({ ' March': -0.3, ' 2021': -3.0 })).toMatchObject({
    exitCode: EXIT.failed,
    output: expect.stringContaining('as the base model does, without the adapter'),
  });
  expect(await probe({ ' Tuesday': -0.1, ' 2021': -9 })).toMatchObject({
    exitCode: EXIT.failed,
    output: expect.stringContaining('neither'),
  });
});

it('prints the result as JSON, and refuses an invalid tolerance', async () => {
  const { output } = await probe({ ' 2021': -0.2, ' March': -2.4 }, ['--json']);
  expect(JSON.parse(output)).toMatchObject({ adapter: ID, model: 'mine', verdict: 'adapter' });
  const refused = await probe({ ' 2021': -0.2 }, ['--tolerance', 'much']);
  expect(refused).toMatchObject({ exitCode: EXIT.failed, errorOutput: expect.stringContaining('--tolerance') });
});
