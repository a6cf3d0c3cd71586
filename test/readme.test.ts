import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startStack } from '../scripts/stack/start-stack.mjs';
import { makeDataFolder } from './data-folder.js';
import { writeTinyLlama } from './tiny-llama.js';

// The first ten minutes of README.md, pasted into one fresh shell, against a complete service. Only the port is another one, and
// the base model of that name is tiny, so its texts are not compared.

const ROOT = path.join(import.meta.dirname, '..');

interface Step {
  pasted: string;
  /** The output that README.md shows below, cut at `…`. */
  printed: string;
}

const page = await readFile(path.join(ROOT, 'README.md'), 'utf8');
const chapter = page.slice(page.indexOf('## The first ten minutes'), page.indexOf('## What next'));
const steps = [...chapter.matchAll(/^```sh\n([\s\S]*?)^```\n(?:```(?:json)?\n([\s\S]*?)^```\n)/gm)].map(
  ([, pasted = '', printed = '']): Step => ({ pasted, printed }),
);
const program = (language: string) =>
  new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'm').exec(chapter)?.[1] ?? '';

let folder: string;
let stack: Awaited<ReturnType<typeof startStack>>;
let shell: Shell;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-readme-'));
  await makeDataFolder(path.join(folder, 'data'));
  await writeTinyLlama(path.join(folder, 'models/SmolLM2-135M-Instruct'));
  stack = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir: path.join(folder, 'models'),
    env: { ...process.env, REDIS_URL: undefined },
  });
  for (const name of ['examples', 'node_modules']) await symlink(path.join(ROOT, name), path.join(folder, name));
  // As the page says it for another port.
  shell = new Shell(folder);
  await shell.paste(`export API_PORT=${new URL(stack.apiUrl).port}`);
});

afterAll(async () => {
  shell?.end();
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe('README.md', () => {
  test('has a step for each heading of its first ten minutes', () => {
    expect(chapter.match(/^### /gm)).toHaveLength(steps.length);
    expect(chapter.match(/^```sh$/gm)).toHaveLength(steps.length);
  });

  test.each(steps)('prints what it shows: $pasted', async ({ pasted, printed }) => {
    const { code, output } = await shell.paste(pasted);
    expect([code, output]).toEqual([0, expect.any(String)]);
    // A text is the model's own, and its length too.
    const pieces = printed
      .replaceAll(/"content":"1918-09-10"|"(prompt|completion|total)_tokens":\d+|"(?:stop)"/g, '…')
      .split(/[…\n]+/);
    let rest = output;
    for (const piece of pieces) {
      expect(rest).toContain(piece);
      rest = rest.slice(rest.indexOf(piece) + piece.length);
    }
  });

  test('has a program for Node that answers in the same shell', async () => {
    const { code, output } = await shell.paste(`node --input-type=module <<'END'\n${program('js')}\nEND\n`);
    expect([code, output]).toEqual([0, expect.stringMatching(/./)]);
  });
});

/** One bash, into which blocks are pasted. */
class Shell {
  readonly #process;
  readonly #lines;

  constructor(cwd: string) {
    const { NODE_OPTIONS: _, ...env } = process.env;
    this.#process = spawn('bash', ['--norc', '--noprofile'], { cwd, env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async paste(block: string): Promise<{ code: number; output: string }> {
    this.#process.stdin.write(`${block}\nCODE=$?; echo; echo "ended with $CODE"\n`);
    let output = '';
    for (;;) {
      const { value: line, done } = await this.#lines.next();
      if (done) throw new Error(`The shell has ended after: ${output}`);
      const ended = /^ended with (\d+)$/.exec(line);
      if (ended !== null) return { code: Number(ended[1]), output };
      output += `${line}\n`;
    }
  }

  end(): void {
    this.#process.kill();
  }
}
