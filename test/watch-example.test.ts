import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealApi, startRealApi } from '../services/api/test/real-api.js';
import { type RealRedis, startRealRedis } from './real-redis.js';

// examples/watch with what a user gets wrong, against the real api: one line that says what is wrong, without a traceback.

const PROGRAM = fileURLToPath(new URL('../examples/watch/forward.py', import.meta.url));

let server: RealRedis;
let api: RealApi;
let url: string;
beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});

async function forward(service: string, ...args: string[]) {
  const child = spawn('python3', [PROGRAM, ...args], { env: { PATH: process.env.PATH, LORASMITH_URL: service } });
  const [errors, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  return { errors, code };
}

test.each([
  [`job_${'0'.repeat(24)}`, /^There is no job "job_0{24}"[^\n]*\n$/],
  ['../datasets', /^[^\n]*\.\.[^\n]*\n$/],
])('the job %s is refused in the words of the service', async (job, line) => {
  const { errors, code } = await forward(url, job);
  expect([code, errors]).toEqual([1, expect.stringMatching(line)]);
});

test('without a job it says how it is called', async () => {
  expect(await forward(url)).toEqual({ code: 1, errors: expect.stringContaining('python forward.py JOB') });
});

test('a service that is not there, and one that is another, are named', async () => {
  const other = createServer((_request, response) => response.writeHead(404).end('<html>nothing here</html>'));
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const wrong = await forward(`http://127.0.0.1:${port}`, 'job_1');
  expect([wrong.code, wrong.errors]).toEqual([1, expect.stringMatching(/^HTTP Error 404: .*nothing here[^\n]*\n$/)]);
  other.close();
  await once(other, 'close');
  const gone = await forward(`http://127.0.0.1:${port}`, 'job_1');
  expect([gone.code, gone.errors]).toEqual([1, expect.stringMatching(/^http:\S+ does not answer: [^\n]*\n$/)]);
});
